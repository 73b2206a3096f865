//! What a machine that is to become a host downloads. None of it is a secret.

use axum::{
    extract::Path,
    http::header,
    response::{IntoResponse, Response},
};

use pinacle_bus::{
    client::Bucket,
    contract::{
        key::{SSH_KEY_RING, SshKeyRing},
        topology::KEYS,
    },
};

use super::Shared;
use crate::problem::{Code, Problem};

/// `GET /install.sh`
pub async fn script(app: Shared) -> Result<Response, Problem> {
    let bucket: Bucket<SshKeyRing> = app.live.bus.bucket(&KEYS).await?;
    // Before an orchestrator has started there is no key; the script says so then.
    let ring = bucket.get(SSH_KEY_RING).await?.map(|entry| entry.record.keys).unwrap_or_default();
    let key = ring.first().map(|key| key.public_key.as_str()).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, "text/x-shellscript; charset=utf-8")], app.install.script(key)).into_response())
}

/// `GET /agent/<arch>` and `GET /agent/<arch>.sha256`
pub async fn agent(app: Shared, Path(name): Path<String>) -> Result<Response, Problem> {
    let (arch, sum) = match name.strip_suffix(".sha256") {
        Some(arch) => (arch, true),
        None => (name.as_str(), false),
    };
    let missing = || Problem::new(Code::AgentNotServed, Code::AgentNotServed.explanation());
    let agent = app.install.agent(arch).ok_or_else(missing)?;
    if sum {
        return Ok(format!("{}  pinacle-agent\n", agent.checksum).into_response());
    }
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], agent.program.clone()).into_response())
}
