//! What is whose: hosts, secrets and pods are their owner's to see, to give away, and in the way of their team's end.

mod end;
mod live;
mod transfer;

use pinacle_bus::contract::{HostId, host::HostRecord, topology::HOSTS};
use pinacle_tests::eventually;

use super::stage::{SOON, Stage, golden};

impl Stage {
    /// An admitted host of this owner's, and the gateway knows it.
    async fn host_of(&self, name: &str, owner: Option<&str>) -> HostId {
        let host_id = HostId::new();
        let record =
            HostRecord { host_id, name: name.into(), owner: owner.map(str::to_owned), ..golden("host_record") };
        self.bus.bucket(&HOSTS).await.unwrap().create(&host_id.to_string(), &record).await.unwrap();
        eventually(SOON, "the gateway to know the host", async || {
            let answer = self.get(&format!("/hosts/{host_id}")).await;
            if answer.status == 200 { Ok(()) } else { Err(answer) }
        })
        .await;
        host_id
    }

    /// Changes a host's record as the orchestrator does.
    async fn host_changes(&self, host: HostId, change: impl FnOnce(&mut HostRecord)) {
        let bucket = self.bus.bucket::<HostRecord>(&HOSTS).await.unwrap();
        let mut entry = bucket.get(&host.to_string()).await.unwrap().unwrap();
        change(&mut entry.record);
        bucket.update(&host.to_string(), &entry.record, entry.revision).await.unwrap();
    }
}
