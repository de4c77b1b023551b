//! An error in one line, with what lies under it.

use std::error::Error;

/// The error with its causes, each once: many say what the one above them said already.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut under = error.source();
    while let Some(cause) = under {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        under = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("the socket is closed")]
    struct Closed;

    #[derive(Debug, Error)]
    #[error(transparent)]
    struct Wrapped(#[from] Quoted);

    #[derive(Debug, Error)]
    #[error("the answer broke: {0}")]
    struct Quoted(#[source] Closed);

    #[derive(Debug, Error)]
    #[error("nothing came")]
    struct Nothing(#[source] Wrapped);

    #[test]
    fn each_cause_is_told_once() {
        assert_eq!(causes(&Closed), "the socket is closed");
        let nothing = Nothing(Wrapped(Quoted(Closed)));
        assert_eq!(causes(&nothing), "nothing came: the answer broke: the socket is closed");
    }
}
