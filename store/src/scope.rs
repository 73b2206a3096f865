//! Who asks. Every read that answers a person takes a [`Scope`], so that a query which forgets it does not compile.

use std::collections::BTreeSet;

/// What the asker may see. It has no default on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything: an admin, or the installation itself.
    All,
    /// What these owners have: a person and the teams that they are in. Dead letters are not among it.
    Owners(BTreeSet<String>),
}

impl Scope {
    /// What one owner alone has.
    pub fn of(owner: impl Into<String>) -> Self {
        Self::Owners([owner.into()].into())
    }

    /// The owners that it is limited to.
    pub fn owners(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::All => None,
            Self::Owners(owners) => Some(owners),
        }
    }

    /// Whether it holds what this owner has.
    pub fn sees(&self, owner: &str) -> bool {
        self.owners().is_none_or(|owners| owners.contains(owner))
    }

    /// Whether it holds what belongs to the installation rather than to an owner.
    pub(crate) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }
}
