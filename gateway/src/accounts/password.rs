//! Passwords: how strong one must be, and its argon2id hash, made on threads that may block and on few of them at once.

use std::{sync::Arc, time::Duration};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use zxcvbn::{Score, zxcvbn};

use crate::problem::{Code, Problem};

/// Fewest letters; what makes a password strong is asked of zxcvbn.
const SHORTEST: usize = 10;
/// Most bytes, so that nobody makes the hash or the estimate long.
const LONGEST_BYTES: usize = 256;
/// What the estimate looks at; it takes time with the square of the length.
const ESTIMATED: usize = 72;
/// How long a request waits for its turn to hash.
const PATIENCE: Duration = Duration::from_secs(10);

/// The hashes, made a few at once: each takes 19 MiB and a good part of a core's tenth of a second.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// What a password is held against where there is no account, so that this takes as long.
    nobodys: Arc<str>,
}

impl Passwords {
    /// One hash at a time for each two of the machine's cores.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new() -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let nobodys = hash("a password that nobody has")?;
        Ok(Self { turns: Arc::new(Semaphore::new(cores.div_ceil(2))), nobodys: nobodys.into() })
    }

    /// Refuses what is too short, too long, or too easily guessed by somebody who knows what `about` says.
    ///
    /// # Errors
    /// With what is wrong with it, never with the password.
    pub async fn judge(&self, password: &str, about: &[&str]) -> Result<(), Problem> {
        let weak = |why: &str| Err(Problem::field(Code::WeakPassword, "password", why));
        if password.len() > LONGEST_BYTES {
            return weak("may have at most 256 bytes");
        }
        if password.chars().count() < SHORTEST {
            return weak("must have at least 10 characters");
        }
        let looked_at: String = password.chars().take(ESTIMATED).collect();
        let about: Vec<String> = about.iter().map(|text| (*text).to_owned()).chain(["pinacle".to_owned()]).collect();
        let found = self
            .in_turn(move || {
                let about: Vec<&str> = about.iter().map(String::as_str).collect();
                let entropy = zxcvbn(&looked_at, &about);
                let warning = entropy.feedback().and_then(|feedback| feedback.warning()).map(|text| text.to_string());
                (entropy.score(), warning)
            })
            .await?;
        match found {
            (Score::Three | Score::Four, _) => Ok(()),
            (_, Some(warning)) => weak(&format!("is too easily guessed: {warning}")),
            (_, None) => weak("is too easily guessed: take a longer one, such as four words that do not go together"),
        }
    }

    /// The hash of a password, with a salt of its own.
    ///
    /// # Errors
    /// When too many are under way.
    pub async fn hash(&self, password: String) -> Result<String, Problem> {
        let hashed = self.in_turn(move || hash(&password)).await?;
        hashed.map_err(|error| Problem::internal(Code::Internal, "hash a password", error.as_ref()))
    }

    /// Whether a password is the one of the hash. Without a hash it is not, and that takes as long.
    ///
    /// # Errors
    /// When too many are under way.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, Problem> {
        let nobodys = self.nobodys.clone();
        self.in_turn(move || {
            let known = hash.is_some() && password.len() <= LONGEST_BYTES;
            let hash = hash.as_deref().unwrap_or(&nobodys);
            let end = password.floor_char_boundary(LONGEST_BYTES);
            let password = password.get(..end).unwrap_or_default();
            // What cannot be read is nobody's hash.
            PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
                && known
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let overloaded = || Problem::new(Code::Overloaded, Code::Overloaded.explanation());
        let turn = timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(overloaded()) };
        // The turn goes with the work: a request that is given up does not make room before its hash has ended.
        let done = spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        done.await.map_err(|error| Problem::internal(Code::Internal, "hash a password", &error))
    }
}

fn hash(password: &str) -> anyhow::Result<String> {
    // argon2id with 19 MiB, two passes, one lane: OWASP's minimum. Each hash says its own, so that these can be raised.
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| anyhow::anyhow!("argon2: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_argon2id_salted_and_fits_its_password_alone() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash("correct horse".into()).await.unwrap());
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct horsf".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(String::new(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("a password that nobody has".into(), None).await.unwrap());
        assert!(!passwords.verify("x".into(), Some("no hash".into())).await.unwrap());
    }

    #[tokio::test]
    async fn weak_passwords_are_refused_without_being_repeated() {
        let passwords = Passwords::new().unwrap();
        let about = ["someone@example.org", "Someone Else"];
        let long = "x".repeat(300);
        for weak in ["short", "password12", "qwertyuiop", "aaaaaaaaaaaaaaaa", "someone@example.org", long.as_str()] {
            let problem = passwords.judge(weak, &about).await.unwrap_err();
            assert_eq!(problem.code(), Code::WeakPassword);
            assert!(!problem.detail().contains(weak), "{}", problem.detail());
        }
        for strong in ["correct-horse-battery-staple", "ein Wort und noch ein ganz anderes", "Xk4-pq9_Tz7w"] {
            passwords.judge(strong, &about).await.unwrap();
        }
    }
}
