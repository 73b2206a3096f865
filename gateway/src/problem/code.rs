//! The codes of all errors, each with its status, its title and what it means: the one list, also of the documentation.

use axum::http::StatusCode;
use serde::{Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

macro_rules! codes {
    ($($name:ident = $code:literal, $status:ident, $title:literal, $explanation:literal;)*) => {
        /// The kinds of errors. A code never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(
                #[doc = $explanation]
                $name,
            )*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As in the body.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// For people, the same each time.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What it means and what to do.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$name => $explanation,)* }
            }
        }
    };
}

codes! {
    BadRequest = "bad_request", BAD_REQUEST, "The request cannot be read",
        "The request is not as HTTP or this API wants it.";
    InvalidParameter = "invalid_parameter", BAD_REQUEST, "A parameter is not as it must be",
        "A parameter of the path or the query is missing, unknown or has a value that it cannot have.";
    InvalidCursor = "invalid_cursor", BAD_REQUEST, "The cursor is not one of ours",
        "A cursor must be given back as it came, to the same route; leave it out to begin anew.";
    InvalidBody = "invalid_body", UNPROCESSABLE_ENTITY, "The body is not as it must be",
        "The body is no JSON, or not of the shape that this route wants.";
    Unauthorized = "unauthorized", UNAUTHORIZED, "Say who you are",
        "The request needs the header Authorization with Bearer and a valid token.";
    SignInRefused = "sign_in_refused", UNAUTHORIZED, "That is not right",
        "There is no such account, its password is another one, or it may not come in.";
    SecondFactorNeeded = "second_factor_needed", UNAUTHORIZED, "Now the second factor",
        "The password is right; send it again with the code of the app, or a recovery code.";
    LinkRefused = "link_refused", GONE, "The link is good no more",
        "It was used, has run out, or a newer one took its place; ask for another.";
    EnrolmentRefused = "enrolment_refused", UNAUTHORIZED, "The machine may not join",
        "The token or the key is not good, or not any more.";
    HostDisabled = "host_disabled", FORBIDDEN, "The host is disabled",
        "Somebody disabled the host; its agent may connect again once it is enabled.";
    MachineKnown = "machine_known", CONFLICT, "The machine is a host already",
        "A host that is connected has the same machine id.";
    EnrolmentUnavailable = "enrolment_unavailable", SERVICE_UNAVAILABLE, "No machine can join here",
        "The gateway has no key to admit hosts with: gateway.authority.";
    Forbidden = "forbidden", FORBIDDEN, "You may not do this",
        "This belongs to the installation: only its admins may see or change it.";
    GrantMissing = "grant_missing", FORBIDDEN, "The token was not made for this",
        "The token lacks the grant that this route demands: make one that has it.";
    RoleMissing = "role_missing", FORBIDDEN, "Your role in the team does not allow this",
        "Members of a team use what it has; its admins and owners do more: the documentation has the table.";
    OriginForbidden = "origin_forbidden", FORBIDDEN, "Pages of this origin may not connect",
        "The page's origin is neither the gateway's own nor in gateway.allowed_origins.";
    CrossSite = "cross_site", FORBIDDEN, "This page may not do that",
        "The request comes from a page of another origin, or lacks the session's x-csrf-token.";
    SignUpClosed = "sign_up_closed", FORBIDDEN, "Nobody can sign up here",
        "Accounts are made by those who run this installation (gateway.sign_up).";
    SessionNeeded = "session_needed", FORBIDDEN, "Sign in for this",
        "This takes a session of a person who signed in, not a token.";
    NoAccount = "no_account", FORBIDDEN, "There is no account behind this token",
        "The installation's own token belongs to nobody; sign in, or use a token of an account.";
    RouteNotFound = "route_not_found", NOT_FOUND, "There is nothing here",
        "No route has this path; /api/docs lists all of them.";
    HostNotFound = "host_not_found", NOT_FOUND, "There is no such host",
        "No host has this id or name.";
    EnrolmentNotFound = "enrolment_not_found", NOT_FOUND, "There is no such token",
        "No enrolment token has this id, or it is not yours.";
    AgentNotServed = "agent_not_served", NOT_FOUND, "There is no agent for this machine",
        "The gateway has no agent for this architecture: gateway.agent_dir names the folder with its programs.";
    PodNotFound = "pod_not_found", NOT_FOUND, "There is no such pod",
        "No pod has this id or name, or it is not yours.";
    OwnerNotFound = "owner_not_found", NOT_FOUND, "There is no such owner",
        "No person or team is called so, or you may not act for them.";
    UserNotFound = "user_not_found", NOT_FOUND, "There is no such person",
        "Nobody has this id or e-mail address.";
    TeamNotFound = "team_not_found", NOT_FOUND, "There is no such team",
        "No team has this id or name, or you are not in it.";
    InvitationNotFound = "invitation_not_found", NOT_FOUND, "There is no such invitation",
        "No invitation is like that, it is over, or it is for somebody else.";
    TokenNotFound = "token_not_found", NOT_FOUND, "There is no such token",
        "No token has this id, it is revoked, or it is not yours.";
    OperationNotFound = "operation_not_found", NOT_FOUND, "There is no such operation",
        "No operation has this id, or it is on something that is not yours.";
    AuditEntryNotFound = "audit_entry_not_found", NOT_FOUND, "There is no such entry",
        "No entry of the audit log has this id, or it is neither yours nor about something of yours.";
    SecretNotFound = "secret_not_found", NOT_FOUND, "There is no such secret",
        "No secret has this name in this place, or it is not yours.";
    DeadLetterNotFound = "dead_letter_not_found", NOT_FOUND, "There is no such dead letter",
        "No dead letter has this id.";
    SessionNotFound = "session_not_found", NOT_FOUND, "There is no such session",
        "You have no session of this id.";
    NotFoundOnHost = "not_found_on_host", NOT_FOUND, "The host does not have it",
        "The host's agent answered that what the command names is not there.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "This path does not take this method",
        "The path exists, but not with this method; the header Allow names those that it takes.";
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The request took too long",
        "The request with its body was not complete in time.";
    SecondFactorOn = "second_factor_on", CONFLICT, "There is a second factor already",
        "Switch the second factor off before you set up another one.";
    SecondFactorOff = "second_factor_off", CONFLICT, "There is no second factor",
        "Set a second factor up and switch it on first.";
    EmailTaken = "email_taken", CONFLICT, "The address has an account",
        "Somebody with this e-mail address has an account already.";
    NameAmbiguous = "name_ambiguous", CONFLICT, "Several things have this name",
        "More than one has this name; use the id.";
    NameTaken = "name_taken", CONFLICT, "The name is taken",
        "You have another pod of this name; take another name or remove that pod.";
    QuotaExceeded = "quota_exceeded", CONFLICT, "The quota does not allow it",
        "Its owner would use more than the quota allows; delete something, or have an admin raise it.";
    LimitReached = "limit_reached", CONFLICT, "There are as many as may be",
        "There are as many of these as may be; remove one first.";
    LastOwner = "last_owner", CONFLICT, "A team keeps one owner",
        "This is the only owner of the team: make another one first.";
    LastAdmin = "last_admin", CONFLICT, "The installation keeps one admin",
        "This is the only admin who can act: make another one first.";
    TeamNotEmpty = "team_not_empty", CONFLICT, "The team has something",
        "A team that has pods, hosts, secrets or enrolment tokens stays: delete them or give them away first.";
    AccountNotEmpty = "account_not_empty", CONFLICT, "The account has something",
        "An account that has pods, hosts, secrets or enrolment tokens stays: delete them or give them away first.";
    StopFirst = "stop_first", CONFLICT, "The pod must be stopped first",
        "A pod that runs holds its owner's secrets in memory: stop it, then give it away.";
    SecretsMissing = "secrets_missing", CONFLICT, "There are secrets lacking",
        "A pod gets its owner's secrets of its names when it is started or given away: set them first.";
    IdempotencyKeyReused = "idempotency_key_reused", CONFLICT, "The key stands for another request",
        "Another request came with this Idempotency-Key within the last day; take a new key for a new request.";
    TooManySecrets = "too_many_secrets", CONFLICT, "There are too many secrets",
        "An owner may have 500 secrets; remove one first.";
    OperationEnded = "operation_ended", CONFLICT, "The operation cannot be cancelled any more",
        "The operation has ended already, or is done at once.";
    DeadLetterResolved = "dead_letter_resolved", CONFLICT, "The dead letter is settled already",
        "It was sent again or dropped before.";
    DeadLetterUnsendable = "dead_letter_unsendable", CONFLICT, "The dead letter cannot be sent again",
        "What is kept of the message is not whole, or of a release newer than this one.";
    PodNotPlaced = "pod_not_placed", CONFLICT, "The pod is on no host",
        "The pod has not been placed yet, or no longer is.";
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large",
        "The body is larger than gateway.body_limit_bytes.";
    AddressTooLong = "address_too_long", URI_TOO_LONG, "The address is too long",
        "Path and query together have more than 8192 bytes.";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body must be JSON",
        "A body needs the header Content-Type: application/json.";
    UpgradeRequired = "upgrade_required", UPGRADE_REQUIRED, "This route speaks WebSocket",
        "Open it as a WebSocket, version 13.";
    TooManyHeaders = "too_many_headers", REQUEST_HEADER_FIELDS_TOO_LARGE, "The request has too many headers",
        "The request has more headers than gateway.max_headers.";
    WeakPassword = "weak_password", UNPROCESSABLE_ENTITY, "The password is too weak",
        "A password has 10 characters or more, at most 256 bytes, and is not easily guessed.";
    WrongPassword = "wrong_password", UNPROCESSABLE_ENTITY, "That is not your password",
        "Your password of now is needed, and this is another one.";
    WrongCode = "wrong_code", UNPROCESSABLE_ENTITY, "That code is not good",
        "The code is another one, was used already, or is too old; the next one comes within half a minute.";
    AgentRefused = "agent_refused", UNPROCESSABLE_ENTITY, "The agent refused the command",
        "The host's agent does not know the command or cannot do it with these parameters.";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too often",
        "This was asked more often than may be; the header Retry-After names the seconds to wait.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong here",
        "A fault of the gateway's own; the log has it under the request's id.";
    AgentFault = "agent_fault", BAD_GATEWAY, "The agent failed",
        "The host's agent had a fault of its own, or its answer cannot be read.";
    BusUnavailable = "bus_unavailable", SERVICE_UNAVAILABLE, "The bus is away",
        "NATS does not answer now; try again.";
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE, "The history is away",
        "Postgres does not answer now; live state goes on. Try again.";
    NotReady = "not_ready", SERVICE_UNAVAILABLE, "The gateway has just started",
        "The live state has not arrived yet; try again.";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Too many at once",
        "As many requests or WebSockets are under way as may be; try again.";
    AgentUnreachable = "agent_unreachable", SERVICE_UNAVAILABLE, "The agent is not connected",
        "The host's agent is not connected to the bus.";
    AgentBusy = "agent_busy", SERVICE_UNAVAILABLE, "The agent is busy",
        "The host's agent has as many commands at once as it takes; try again.";
    AgentUnavailable = "agent_unavailable", SERVICE_UNAVAILABLE, "The host cannot do this now",
        "Docker, or something else that the command needs, is away on the host.";
    AgentTimeout = "agent_timeout", GATEWAY_TIMEOUT, "The agent did not answer in time",
        "The command may have had its effect all the same.";
}

impl Code {
    /// After how many seconds another attempt makes sense.
    pub fn retry_after(self) -> Option<u64> {
        match self {
            Self::NotReady | Self::Overloaded | Self::AgentBusy => Some(1),
            Self::BusUnavailable | Self::DatabaseUnavailable | Self::AgentUnreachable | Self::AgentUnavailable => {
                Some(5)
            }
            _ => None,
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let lines: Vec<String> = Self::ALL
            .iter()
            .map(|code| format!("- `{}` ({}): {}", code.as_str(), code.status().as_u16(), code.explanation()))
            .collect();
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .description(Some(format!("The kind of error:\n{}", lines.join("\n"))))
            .into()
    }
}

impl ToSchema for Code {
    fn name() -> std::borrow::Cow<'static, str> {
        "ProblemCode".into()
    }
}
