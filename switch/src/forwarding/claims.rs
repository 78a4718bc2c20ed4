//! Link-local IPv6 addresses beyond the EUI-64 one, claimed first-come.

/// Who claimed which.
#[derive(Debug)]
pub(super) struct Claims;

impl Claims {
    pub(super) fn new() -> Self {
        Claims
    }
}
