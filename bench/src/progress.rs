//! The bar on the terminal.

use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One of so many steps, on stderr.
pub(crate) fn bar(steps: u64) -> Result<ProgressBar> {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} (about {eta} left)").context("the bar's template")?;
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    Ok(bar)
}
