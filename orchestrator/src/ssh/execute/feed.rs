//! What a command reads.

use russh::{ChannelWriteHalf, client::Msg};
use tokio::{fs::File, io::AsyncReadExt};

use super::super::command::Input;

const FILE_CHUNK: usize = 256 * 1024;

/// Sends a command what it reads, and that nothing more comes. That it stops reading before is none of our business; it
/// is seen by its end.
pub async fn feed(writer: &ChannelWriteHalf<Msg>, input: Input) -> std::io::Result<()> {
    match input {
        Input::Nothing => {}
        Input::Secret(secret) => {
            if writer.data_bytes(secret.expose().as_bytes().to_vec()).await.is_err() {
                return Ok(());
            }
        }
        Input::File { path, sent } => {
            let mut file = File::open(path).await?;
            loop {
                let mut chunk = vec![0; FILE_CHUNK];
                let length = file.read(&mut chunk).await?;
                if length == 0 {
                    break;
                }
                chunk.truncate(length);
                if writer.data_bytes(chunk).await.is_err() {
                    return Ok(());
                }
                sent.send_modify(|sent| *sent += length as u64);
            }
        }
    }
    let _ = writer.eof().await;
    Ok(())
}
