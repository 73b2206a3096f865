//! Who asks. Every request below `/api/v1` has an [`Identity`], put there by one layer around all of it; a handler takes
//! it as an argument and turns it into the store's [`Scope`], so that a handler which forgets to ask who it is cannot
//! read anything, and a route outside of the layer refuses.

pub mod api_token;
mod keys;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::request::Parts,
    middleware::Next,
    response::{IntoResponse, Response},
};
use pinacle_bus::contract::{LoginId, TeamId, TokenId, UserId};
use pinacle_store::Scope;

use crate::{
    live::board::Owned,
    problem::{Code, Problem},
    request,
};

pub use keys::{Keys, SUBPROTOCOL, TICKET_PREFIX};

/// The owner of what was made with the installation's own token.
pub const INSTALLATION: &str = "admin";
/// The holder of the installation's own token in the audit log.
pub const INSTALLATION_ACTOR: &str = "installation";

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// Whoever holds the installation's own token.
    Installation,
    /// A person.
    User {
        /// Who.
        user_id: UserId,
        /// By what they showed.
        via: Via,
    },
}

/// What a person showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The cookie of a session.
    Session(LoginId),
    /// A token for the API.
    Token(TokenId),
}

/// What a token may be used for. A session may be used for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// To look.
    Read,
    /// To make and change pods.
    Pods,
    /// To change hosts.
    Hosts,
    /// For what only admins may do.
    Admin,
}

impl Grant {
    /// Every grant.
    pub const ALL: [Self; 4] = [Self::Read, Self::Pods, Self::Hosts, Self::Admin];

    /// As in the table and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Pods => "pods",
            Self::Hosts => "hosts",
            Self::Admin => "admin",
        }
    }

    /// The grant of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.as_str() == name)
    }
}

/// Somebody's place in a team; later ones may do all that earlier ones may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Uses what the team has.
    Member,
    /// Looks after members and what the team has.
    Admin,
    /// May end the team.
    Owner,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Member, Self::Admin, Self::Owner];

    /// As in the table and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// The role of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    actor: Actor,
    name: Arc<str>,
    is_admin: bool,
    grants: BTreeSet<Grant>,
    roles: BTreeMap<TeamId, Role>,
    scope: Scope,
}

impl Identity {
    /// Whoever holds the installation's own token.
    pub fn installation() -> Self {
        Self {
            actor: Actor::Installation,
            name: INSTALLATION.into(),
            is_admin: true,
            grants: Grant::ALL.into(),
            roles: BTreeMap::new(),
            scope: Scope::All,
        }
    }

    /// A person in teams. What is limited to one team sees and owns nothing else.
    pub fn person(
        user_id: UserId,
        via: Via,
        is_admin: bool,
        grants: BTreeSet<Grant>,
        roles: BTreeMap<TeamId, Role>,
        only_team: Option<TeamId>,
    ) -> Self {
        let is_admin = is_admin && only_team.is_none() && grants.contains(&Grant::Admin);
        let roles: BTreeMap<_, _> =
            roles.into_iter().filter(|(team, _)| only_team.is_none_or(|only| only == *team)).collect();
        let own = only_team.is_none().then(|| user_id.to_string());
        let scope = if is_admin {
            Scope::All
        } else {
            Scope::Owners(own.into_iter().chain(roles.keys().map(TeamId::to_string)).collect())
        };
        Self { actor: Actor::User { user_id, via }, name: user_id.to_string().into(), is_admin, grants, roles, scope }
    }

    /// Who acts.
    pub fn actor(&self) -> Actor {
        self.actor
    }

    /// Whether a person signed in, rather than a token.
    pub fn is_session(&self) -> bool {
        matches!(self.actor, Actor::User { via: Via::Session(_), .. })
    }

    /// For logs and records, and the owner of what they make if they name no other.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What they may see of the history.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether they may see and do what belongs to the installation, and see all that there is.
    pub fn is_admin(&self) -> bool {
        self.is_admin
    }

    /// Whether what they showed may be used for this.
    pub fn may(&self, grant: Grant) -> bool {
        self.grants.contains(&grant)
    }

    /// Their place in a team.
    pub fn role_in(&self, team: TeamId) -> Option<Role> {
        self.roles.get(&team).copied()
    }

    /// Whether they may act for this owner: themselves, or a team that they are in.
    pub fn owns(&self, owner: &str) -> bool {
        self.scope.sees(owner)
    }

    /// Whether this owner is themselves, or a team that they are in; an admin's wider view does not count.
    pub fn is_own(&self, owner: &str) -> bool {
        self.name() == owner || owner.parse().is_ok_and(|team| self.role_in(team).is_some())
    }

    /// For what only admins may see and do.
    ///
    /// # Errors
    /// When they are none.
    pub fn admin(&self) -> Result<(), Problem> {
        if self.is_admin() { Ok(()) } else { Err(Problem::new(Code::Forbidden, Code::Forbidden.explanation())) }
    }

    /// Whether they may see what this owner has; `None` = the installation itself.
    pub fn sees(&self, owner: Option<&str>) -> bool {
        self.scope == Scope::All || owner.is_some_and(|owner| self.scope.sees(owner))
    }

    /// Whether they may see a host, a pod or an operation, and change it if what they showed may be used for that.
    pub fn may_see(&self, thing: &impl Owned) -> bool {
        self.sees(thing.owner())
    }
}

/// The layer around `/api/v1`.
pub async fn require(State(keys): State<Arc<Keys>>, mut request: Request, next: Next) -> Response {
    match keys.identify(request.method(), request.headers()).await {
        Ok(Some(identity)) => {
            if let Some(info) = request::current() {
                // Set once a request: this layer is passed once.
                let _ = info.identity.set(identity.name().to_owned());
            }
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Ok(None) => {
            metrics::counter!("pinacle_gateway_unauthorized_total").increment(1);
            unauthorized().into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

fn unauthorized() -> Problem {
    Problem::new(Code::Unauthorized, Code::Unauthorized.explanation())
}

impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthorized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(is_admin: bool, grants: &[Grant], roles: &[(TeamId, Role)], only_team: Option<TeamId>) -> Identity {
        let via = Via::Token(TokenId::new());
        let (grants, roles) = (grants.iter().copied().collect(), roles.iter().copied().collect());
        Identity::person(UserId::new(), via, is_admin, grants, roles, only_team)
    }

    #[test]
    fn a_person_owns_their_own_and_their_teams() {
        let team = TeamId::new();
        let ann = token(false, &Grant::ALL, &[(team, Role::Member)], None);
        assert!(ann.owns(ann.name()) && ann.owns(&team.to_string()));
        assert!(!ann.owns(&UserId::new().to_string()) && !ann.owns(INSTALLATION) && !ann.is_admin());
    }

    #[test]
    fn a_token_for_one_team_has_that_team_alone_also_an_admins() {
        let (team, other) = (TeamId::new(), TeamId::new());
        let bob = token(true, &Grant::ALL, &[(team, Role::Owner), (other, Role::Owner)], Some(team));
        assert!(bob.owns(&team.to_string()) && !bob.owns(&other.to_string()) && !bob.owns(bob.name()));
        assert!(!bob.is_admin());
        let elsewhere = token(false, &Grant::ALL, &[], Some(other));
        assert!(!elsewhere.owns(&other.to_string()), "who has left the team has nothing of it");
    }

    #[test]
    fn an_admins_token_without_the_grant_is_no_admins() {
        assert!(token(true, &Grant::ALL, &[], None).is_admin());
        let limited = token(true, &[Grant::Read], &[], None);
        assert!(!limited.is_admin() && *limited.scope() == Scope::of(limited.name()));
    }
}
