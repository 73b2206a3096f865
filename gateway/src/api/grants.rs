//! What each route demands of what somebody showed: the one list, and the one layer that holds every request against it.
//! A route that is not in the list is refused, and a test finds it.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::error;
use utoipa::openapi::{OpenApi, path::Operation, security::SecurityRequirement};

use crate::{
    identity::{Grant, Identity},
    problem::{Code, Problem},
};

/// What a route demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// The grant; whose things are meant is the handler's to look at.
    Granted(Grant),
    /// The grant `admin`, and that its person is one.
    Admin,
}

const READ: Demand = Demand::Granted(Grant::Read);
const PODS: Demand = Demand::Granted(Grant::Pods);
const HOSTS: Demand = Demand::Granted(Grant::Hosts);
/// People's own accounts and teams: the grant `admin`, whoever they are.
const ACCOUNTS: Demand = Demand::Granted(Grant::Admin);

/// By the operation's id in the document.
const DEMANDS: &[(Demand, &[&str])] = &[
    (
        READ,
        &[
            "version",
            "live",
            "host_list",
            "host_get",
            "host_metrics",
            "host_events",
            "host_exec",
            "pod_list",
            "pod_get",
            "pod_metrics",
            "pod_events",
            "pod_exec",
            "pod_logs",
            "operation_list",
            "operation_get",
            "event_list",
            "exec_list",
            "enrolment_list",
            "secret_list",
            "secret_versions",
            "audit_list",
            "audit_get",
            "audit_export",
            "token_list",
            "team_list",
            "team_get",
            "team_invitation_list",
            "quota_get",
            "session_list",
            "account_get",
            "second_factor_get",
            // Opens the WebSocket, where things are looked at.
            "live_ticket",
        ],
    ),
    (
        PODS,
        &[
            "pod_create",
            "pod_delete",
            "pod_start",
            "pod_stop",
            "pod_restart",
            "pod_pause",
            "pod_resume",
            "pod_transfer",
            "operation_cancel",
            "secret_put",
            "secret_delete",
            "secret_transfer",
        ],
    ),
    (
        HOSTS,
        &[
            "host_cordon",
            "host_uncordon",
            "host_label",
            "host_allow",
            "host_trust_keys",
            "host_ping",
            "host_agent_version",
            "host_sample",
            "host_inventory",
            "host_set_interval",
            "host_disable",
            "host_enable",
            "host_maintain",
            "host_note",
            "host_remove",
            "host_rotate_key",
            "host_transfer",
            "enrolment_create",
            "enrolment_revoke",
        ],
    ),
    (
        ACCOUNTS,
        &[
            "token_create",
            "token_revoke",
            "team_create",
            "team_rename",
            "team_delete",
            "team_role",
            "team_remove",
            "team_invite",
            "team_uninvite",
            "invitation_accept",
            "invitation_decline",
            "session_end",
            "session_end_others",
            "account_change_password",
            "account_change_email",
            "account_delete",
            "second_factor_begin",
            "second_factor_confirm",
            "second_factor_recovery_codes",
            "second_factor_off",
            // Whom they may make is the handler's to look at.
            "user_create",
        ],
    ),
    (
        Demand::Admin,
        &[
            "reconciler_list",
            "dead_letter_list",
            "dead_letter_get",
            "dead_letter_drop",
            "dead_letter_resend",
            "user_list",
            "user_get",
            "user_suspend",
            "user_unsuspend",
            "user_grant_admin",
            "user_revoke_admin",
            "quota_set",
            "overview",
            "secret_rotate",
            "ssh_key_get",
            "ssh_key_rotate",
            "account_first",
        ],
    ),
];

impl Demand {
    fn grant(self) -> Grant {
        match self {
            Self::Granted(grant) => grant,
            Self::Admin => Grant::Admin,
        }
    }

    /// Whether it is the person or only what they showed that is too little.
    ///
    /// # Errors
    /// When one of them is.
    fn hold_against(self, identity: &Identity) -> Result<(), Problem> {
        let grant = self.grant();
        if !identity.may(grant) {
            let detail = format!("this token was not made for that: it lacks the grant {}", grant.as_str());
            return Err(Problem::new(Code::GrantMissing, detail));
        }
        if self == Self::Admin { identity.admin() } else { Ok(()) }
    }
}

/// What every route of the document demands; `None` for one that the list has forgotten.
#[derive(Clone)]
pub struct Demands(Arc<HashMap<String, HashMap<Method, Option<Demand>>>>);

impl Demands {
    /// Of every route in the document.
    pub fn of(document: &OpenApi) -> Self {
        let of_path = |item: &utoipa::openapi::PathItem| -> HashMap<Method, Option<Demand>> {
            operations(item).map(|(method, operation)| (method, demand_of(operation))).collect()
        };
        Self(Arc::new(document.paths.paths.iter().map(|(path, item)| (path.clone(), of_path(item))).collect()))
    }
}

/// The operations of a path that ask who it is; those that ask nobody say so themselves.
fn operations(item: &utoipa::openapi::PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let all = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    let asks = |operation: &&Operation| operation.security != Some(vec![SecurityRequirement::default()]);
    all.into_iter().filter_map(move |(method, operation)| Some((method, operation.as_ref().filter(asks)?)))
}

fn demand_of(operation: &Operation) -> Option<Demand> {
    let id = operation.operation_id.as_deref()?;
    DEMANDS.iter().find(|(_, ids)| ids.contains(&id)).map(|(demand, _)| *demand)
}

/// The layer within [`require`](crate::identity::require).
pub async fn demand(State(demands): State<Demands>, identity: Identity, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().and_then(|path| demands.0.get(path.as_str()));
    // axum answers HEAD with what it has for GET.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    match path.and_then(|methods| methods.get(method)) {
        Some(Some(demand)) => match demand.hold_against(&identity) {
            Ok(()) => next.run(request).await,
            Err(problem) => problem.into_response(),
        },
        Some(None) => {
            error!(path = request.uri().path(), "a route without a demand");
            Problem::new(Code::Forbidden, Code::Forbidden.explanation()).into_response()
        }
        // Nothing is here, or not with this method: the router says so.
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::document;

    #[test]
    fn every_route_has_a_demand_and_every_demand_a_route() {
        let document = document();
        let ids: BTreeSet<&str> = document
            .paths
            .paths
            .values()
            .flat_map(operations)
            .map(|(_, operation)| operation.operation_id.as_deref().unwrap())
            .collect();
        let listed: Vec<&str> = DEMANDS.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
        assert_eq!(ids, listed.iter().copied().collect(), "routes and the list of demands differ");
        assert_eq!(ids.len(), listed.len(), "a route has two demands");
    }

    #[test]
    fn what_changes_something_is_never_had_for_reading() {
        for (method, operation) in document().paths.paths.values().flat_map(operations) {
            let id = operation.operation_id.as_deref().unwrap();
            assert!(method == Method::GET || demand_of(operation) != Some(READ) || id == "live_ticket", "{id}");
        }
    }
}
