//! Why a request is not done: one line, and the kind of fault.

/// A request that is not done, and that changed nothing unless its message says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It cannot be read. HTTP 400.
    #[error("{0}")]
    Malformed(String),
    /// What it speaks of is not there. HTTP 404.
    #[error("{0}")]
    Unknown(String),
    /// What it wants is taken, ambiguous or still in use. HTTP 409.
    #[error("{0}")]
    Conflict(String),
    /// A value that cannot be. HTTP 422.
    #[error("{0}")]
    Impossible(String),
    /// The world did not play along. HTTP 500.
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    /// Says before the message what was being done.
    #[must_use]
    pub(crate) fn during(mut self, what: &str) -> Self {
        let text = match &mut self {
            Refusal::Malformed(text)
            | Refusal::Unknown(text)
            | Refusal::Conflict(text)
            | Refusal::Impossible(text)
            | Refusal::Failed(text) => text,
        };
        text.insert_str(0, &format!("{what}: "));
        self
    }
}

/// What a request comes to.
pub(crate) type Outcome<T> = Result<T, Refusal>;
