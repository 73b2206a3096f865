//! Who asks. Every read that answers a person takes a [`Scope`], so that a query which forgets it does not compile.

/// What the asker may see. It has no default on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything: an admin, or the installation itself.
    All,
    /// This owner's pods and what belongs to them. Hosts and dead letters are not among it.
    Owner(String),
}

impl Scope {
    /// The owner that it is limited to.
    pub fn owner(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Owner(owner) => Some(owner),
        }
    }

    /// Whether it holds what belongs to the installation rather than to an owner.
    pub(crate) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }
}
