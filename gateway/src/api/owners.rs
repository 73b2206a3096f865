//! Owners by what people call them: a person's id or e-mail address, a team's id or name.

use pinacle_bus::contract::{TeamId, UserId};
use pinacle_store::Belongings;

use super::{App, pods, teams, users};
use crate::{
    identity::{Actor, INSTALLATION, Identity, Role},
    live::{
        board::Owned,
        fleet::{HostLive, PodLive},
    },
    problem::{Code, Problem},
};

/// The owner that is meant, if the asker may act for it. Whom others there are is not told.
///
/// # Errors
/// When there is none such.
pub async fn find(app: &App, identity: &Identity, text: &str) -> Result<String, Problem> {
    let missing = || Problem::new(Code::OwnerNotFound, Code::OwnerNotFound.explanation());
    let own = match identity.actor() {
        Actor::User { user_id, .. } if identity.owns(&user_id.to_string()) => Some(user_id),
        _ => None,
    };
    if text.parse::<UserId>().is_ok() || text.contains('@') {
        // Known without Postgres.
        if let Some(own) = own.map(|own| own.to_string()).filter(|own| own == text) {
            return Ok(own);
        }
        let found = as_owner(users::find(app, text).await, missing())?;
        return if identity.is_admin() || own == Some(found) { Ok(found.to_string()) } else { Err(missing()) };
    }
    if text == INSTALLATION && identity.is_admin() {
        return Ok(INSTALLATION.to_owned());
    }
    // Known without Postgres.
    if let Ok(team) = text.parse::<TeamId>()
        && identity.role_in(team).is_some()
    {
        return Ok(team.to_string());
    }
    as_owner(teams::find(app, identity, text).await, missing()).map(|(team, _)| team.to_string())
}

/// That somebody is not there is told as that there is no such owner; all else as it is.
fn as_owner<T>(found: Result<T, Problem>, missing: Problem) -> Result<T, Problem> {
    found.map_err(|problem| match problem.code() {
        Code::UserNotFound | Code::TeamNotFound => missing,
        _ => problem,
    })
}

/// The owner of what an identity makes without naming one: the person, or the team that a token is for.
///
/// # Errors
/// When there is none: a token for a team that its person has left.
pub fn usual(identity: &Identity) -> Result<String, Problem> {
    let owners = identity.scope().owners();
    match owners {
        Some(owners) if !owners.contains(identity.name()) => owners
            .first()
            .cloned()
            .ok_or_else(|| Problem::new(Code::OwnerNotFound, "this token is for a team that you are no longer in")),
        _ => Ok(identity.name().to_owned()),
    }
}

/// Whether an identity may delete and give away what this owner has: a member of a team may use it only.
pub fn may_manage(identity: &Identity, owner: &str) -> bool {
    match owner.parse::<TeamId>() {
        Ok(team) => identity.is_admin() || identity.role_in(team) >= Some(Role::Admin),
        Err(_) => identity.owns(owner),
    }
}

/// The same as a demand, for what the asker is known to see.
///
/// # Errors
/// When they may not.
pub fn manage(identity: &Identity, owner: Option<&str>) -> Result<(), Problem> {
    if owner.map_or(identity.is_admin(), |owner| may_manage(identity, owner)) {
        Ok(())
    } else {
        Err(Problem::new(Code::RoleMissing, Code::RoleMissing.explanation()))
    }
}

/// What an owner has by the live state, which knows it before it has a row.
///
/// # Errors
/// Before that state has arrived.
pub fn live_belongings(app: &App, owner: &str) -> Result<Belongings, Problem> {
    let fleet = app.fleet()?;
    let has_pod = |pod: &PodLive| pod.owner() == Some(owner) && !pods::is_deleted(pod);
    let has_host = |host: &HostLive| host.owner() == Some(owner);
    Ok(Belongings {
        pods: fleet.pods.page(None, usize::MAX, has_pod).len().try_into().unwrap_or(i64::MAX),
        hosts: fleet.hosts.page(None, usize::MAX, has_host).len().try_into().unwrap_or(i64::MAX),
        ..Belongings::default()
    })
}

/// What keeps an owner from being ended, and what to do about it.
pub fn still_has(has: Belongings) -> String {
    let counted = |count: i64, one: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        more => Some(format!("{more} {one}s")),
    };
    let all = [
        counted(has.pods, "pod"),
        counted(has.hosts, "host"),
        counted(has.secrets, "secret"),
        counted(has.tokens, "enrolment token"),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    format!("there is still {}: delete it or give it away, and take tokens back", all.join(", "))
}
