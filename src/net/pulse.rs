//! Whether a thread still answers: it is asked, and a task on it answers, if the thread gets around to its tasks.
//!
//! Never asks by itself, and costs nothing while nobody asks. Invariant: an answer was given after its question was put.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// The asking end.
#[derive(Clone, Debug)]
pub struct Asker {
    name: String,
    questions: mpsc::Sender<oneshot::Sender<()>>,
}

/// The answering end: for a task of the thread that is asked after.
#[derive(Debug)]
pub struct Answerer(mpsc::Receiver<oneshot::Sender<()>>);

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It answered.
    Answer,
    /// It did not, in time.
    Nothing,
    /// It has ended.
    End,
}

/// Both ends, for one thread.
pub fn pulse(name: String) -> (Asker, Answerer) {
    // Nobody has more than one question for a thread at a time.
    let (questions, answers) = mpsc::channel(1);
    (Asker { name, questions }, Answerer(answers))
}

impl Asker {
    /// What the thread is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, within: Duration) -> Heard {
        let asked = async {
            let (answer, answered) = oneshot::channel();
            if self.questions.send(answer).await.is_err() || answered.await.is_err() {
                return Heard::End;
            }
            Heard::Answer
        };
        tokio::time::timeout(within, asked).await.unwrap_or(Heard::Nothing)
    }
}

impl Answerer {
    /// Answers until nobody can ask any more.
    pub async fn answer(mut self) {
        while let Some(answer) = self.0.recv().await {
            // Whoever asked may have given up.
            let _ = answer.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_thread_answers_is_silent_and_ends_r11_4() {
        let (asker, answerer) = pulse("part".into());
        assert_eq!(asker.ask(SOON).await, Heard::Nothing, "no task answers yet");
        assert_eq!(asker.ask(SOON).await, Heard::Nothing, "nor to the next question");
        let answering = tokio::spawn(answerer.answer());
        assert_eq!(asker.ask(LATE).await, Heard::Answer, "questions given up do not count");
        answering.abort();
        assert_eq!(asker.ask(LATE).await, Heard::End);
    }
}
