//! One's own second factor. In a session: a token for the API neither sets one up nor takes it away.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Shared, json,
    sessions::{own, session_of, with_password},
};
use crate::{extract::FromBody, identity::Identity, problem::Problem};

/// Whether you have a second factor.
#[derive(Serialize, ToSchema)]
pub struct FactorView {
    /// Whether signing in asks for it.
    is_on: bool,
    /// Recovery codes that are left.
    recovery_codes: u64,
}

/// Your second factor
#[utoipa::path(get, path = "/account/second-factor", operation_id = "second_factor_get", tag = "accounts",
    responses((status = 200, body = FactorView)))]
pub async fn state(app: Shared, identity: Identity) -> Result<Response, Problem> {
    session_of(&identity)?;
    let state = app.accounts.factor_state(&own(&app, &identity).await?).await?;
    Ok(json(&FactorView { is_on: state.is_on, recovery_codes: state.recovery_codes }))
}

/// Your password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WithPassword {
    /// The one of now.
    #[schema(format = Password)]
    pub(super) password: String,
}

/// A key for an app. It is shown once.
#[derive(Serialize, ToSchema)]
pub struct FactorKey {
    /// To type into an app.
    secret: String,
    /// The same as an address that apps open.
    url: String,
    /// The address as a picture (QR code) for an app's camera, in SVG.
    qr_svg: String,
}

/// Set up a second factor
///
/// It is asked for once a code of it is confirmed.
#[utoipa::path(post, path = "/account/second-factor", operation_id = "second_factor_begin", tag = "accounts",
    request_body = WithPassword, responses((status = 201, body = FactorKey)))]
pub async fn begin(
    app: Shared,
    identity: Identity,
    FromBody(body): FromBody<WithPassword>,
) -> Result<Response, Problem> {
    let begun = with_password(&app, &identity, async |account| app.accounts.begin_factor(account, body.password).await);
    let begun = begun.await?;
    let key = FactorKey { secret: begun.secret, url: begun.url, qr_svg: begun.qr_svg };
    Ok((StatusCode::CREATED, json(&key)).into_response())
}

/// A code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WithCode {
    /// What the app shows.
    code: String,
}

/// Codes for when the app is lost. They are shown once.
#[derive(Serialize, ToSchema)]
pub struct RecoveryCodes {
    /// Each is good once.
    recovery_codes: Vec<String>,
}

/// Switch your second factor on
///
/// By a code of the key that was set up.
#[utoipa::path(post, path = "/account/second-factor/confirm", operation_id = "second_factor_confirm", tag = "accounts",
    request_body = WithCode, responses((status = 200, body = RecoveryCodes)))]
pub async fn confirm(app: Shared, identity: Identity, FromBody(body): FromBody<WithCode>) -> Result<Response, Problem> {
    session_of(&identity)?;
    let account = own(&app, &identity).await?;
    let recovery_codes = app.accounts.confirm_factor(&account, &body.code).await?;
    Ok(json(&RecoveryCodes { recovery_codes }))
}

/// Make new recovery codes
///
/// Those before are good no more. The second factor stays on.
#[utoipa::path(post, path = "/account/second-factor/recovery-codes", operation_id = "second_factor_recovery_codes",
    tag = "accounts", request_body = WithPassword, responses((status = 200, body = RecoveryCodes)))]
pub async fn recovery_codes(
    app: Shared,
    identity: Identity,
    FromBody(body): FromBody<WithPassword>,
) -> Result<Response, Problem> {
    let made =
        with_password(&app, &identity, async |account| app.accounts.new_recovery_codes(account, body.password).await);
    let recovery_codes = made.await?;
    Ok(json(&RecoveryCodes { recovery_codes }))
}

/// What a second factor is taken away with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchOff {
    /// Your password.
    #[schema(format = Password)]
    password: String,
    /// A code of the app, or a recovery code.
    code: String,
}

/// Switch your second factor off
#[utoipa::path(post, path = "/account/second-factor/off", operation_id = "second_factor_off", tag = "accounts",
    request_body = SwitchOff, responses((status = 204)))]
pub async fn switch_off(
    app: Shared,
    identity: Identity,
    FromBody(body): FromBody<SwitchOff>,
) -> Result<Response, Problem> {
    let removed = with_password(&app, &identity, async |account| {
        app.accounts.remove_factor(account, body.password, &body.code).await
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
