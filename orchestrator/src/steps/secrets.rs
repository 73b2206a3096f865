//! A pod's secrets, into its memory: opened here, sent through standard input alone, and written to files that only the
//! pod's user reads.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use pinacle_bus::{
    contract::key::{POD_SECRETS, PodSecrets},
    settings::Secret,
};
use zeroize::Zeroizing;

use super::docker::{container_name, failure, says};
use crate::{
    operation::context::{StepContext, StepError},
    ssh::Command,
};

/// Where they are in the pod; memory that is mounted there.
pub const FOLDER: &str = "/run/secrets";
/// One line of base64 for each name. Written beside and moved into place, so that no one reads a half; `printf` is the
/// shell's own, so that no value is ever an argument.
const WRITE: &str = r#"set -e; umask 377; cd /run/secrets; for n in "$@"; do IFS= read -r v; rm -f ".$n"; \
printf '%s' "$v" | base64 -d >".$n"; mv -f ".$n" "$n"; done"#;
const NO_PROGRAM: [i32; 2] = [126, 127];

/// Puts the pod's secrets into its container, which has just been started.
pub async fn deliver(context: &mut StepContext) -> Result<(), StepError> {
    let Some(secrets) = context.record().secrets.clone() else { return Ok(()) };
    let values = open(context, &secrets)?;
    let lines: Zeroizing<String> =
        Zeroizing::new(values.values().map(|value| format!("{}\n", STANDARD.encode(value.as_bytes()))).collect());
    let name = container_name(context.pod());
    let mut command = Command::new("docker")
        .args(["exec", "--interactive", &name, "sh", "-c", WRITE, "sh"])
        .args(values.keys())
        .secret_stdin(Secret::new(lines.as_str()))
        .container_command(Some(WRITE))
        .label("Put secrets in");
    // What failed may say what it read.
    for value in values.values().filter(|value| !value.is_empty()) {
        command = command.mask(Secret::new(value.as_str())).mask(Secret::new(STANDARD.encode(value.as_bytes())));
    }
    let finished = context.command(command).await?;
    if finished.is_success() || says(&finished, &["is not running", "no such container"]) {
        // One that has ended already tells why when it is asked.
        return Ok(());
    }
    if finished.exit_code.is_some_and(|code| NO_PROGRAM.contains(&code)) {
        let why = "its secrets cannot be put into it: its image has no sh or no base64";
        return Err(StepError::Failed(why.into()));
    }
    Err(failure(context, "put its secrets in", &finished))
}

fn open(context: &StepContext, secrets: &PodSecrets) -> Result<BTreeMap<String, Zeroizing<String>>, StepError> {
    let pod = context.pod().to_string();
    let opened =
        context.engine().keys.sealing().open(&[POD_SECRETS, &pod], &secrets.sealed).map_err(|_| {
            StepError::Failed("its secrets cannot be opened: they were sealed for another place".into())
        })?;
    // The error would quote what it read.
    let values: BTreeMap<String, String> =
        serde_json::from_slice(&opened).map_err(|_| StepError::Failed("its secrets are not as they must be".into()))?;
    if values.keys().ne(&secrets.names) {
        return Err(StepError::Failed("its secrets are others than their names say".into()));
    }
    Ok(values.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect())
}
