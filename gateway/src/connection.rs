//! Connections as the HTTP server gets them: so many at once and no more, and none that stays without saying anything.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};

/// What the kernel may hold for a client that reads slowly. More would be old state by the time it is read.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
const BACKLOG: u32 = 1024;

/// A connection's other end.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Guarded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Guarded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// See the module.
pub struct Guarded {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    room: Arc<Semaphore>,
    idle: Duration,
}

impl Guarded {
    /// Listens on `address`, with TLS if there is an acceptor. A connection on which nothing moves for `idle` is closed.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(address: SocketAddr, most: usize, idle: Duration, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the connections of the process before.
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit it.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(address)?;
        Ok(Self { listener: socket.listen(BACKLOG)?, tls, room: Arc::new(Semaphore::new(most)), idle })
    }
}

impl Listener for Guarded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let room = loop {
            // Nobody closes it.
            if let Ok(room) = self.room.clone().acquire_owned().await {
                break room;
            }
        };
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Without it small frames wait for the acknowledgement of the ones before; nothing is lost if it cannot be set.
        let _ = stream.set_nodelay(true);
        let timer = Box::pin(sleep(self.idle));
        // The handshake is the connection's own affair: a slow one must not keep others waiting here.
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(acceptor) => Stream::Greeting(Box::new(acceptor.accept(stream))),
        };
        (Connection { stream, timer, idle: self.idle, _room: room }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The bytes of a connection, with or without TLS.
enum Stream {
    Plain(TcpStream),
    /// Its handshake goes on.
    Greeting(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The stream, once its handshake is over.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Bytes>>> {
        if let Self::Greeting(greeting) = self {
            match Pin::new(greeting.as_mut()).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(stream)) => *self = Self::Tls(Box::new(stream)),
            }
        }
        match self {
            Self::Plain(stream) => Poll::Ready(Ok(Pin::new(stream))),
            Self::Tls(stream) => Poll::Ready(Ok(Pin::new(stream.as_mut()))),
            Self::Greeting(_) => Poll::Pending,
        }
    }
}

impl Stream {
    /// Does something with the stream, once its handshake is over.
    fn with<T>(
        &mut self,
        context: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut dyn Bytes>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.poll_ready(context) {
            Poll::Ready(Ok(stream)) => act(stream, context),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What can be read and written.
trait Bytes: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

/// A connection with a place among all and a limit to its silence.
pub struct Connection {
    stream: Stream,
    timer: Pin<Box<Sleep>>,
    idle: Duration,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    /// Passes `moved` on; while nothing moves, the timer runs, and wakes the task when it ends.
    fn watch<T>(&mut self, context: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            let idle = self.idle;
            self.timer.as_mut().reset(Instant::now() + idle);
            return moved;
        }
        self.timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let moved = self.stream.with(context, |stream, context| stream.poll_read(context, into));
        self.watch(context, moved)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let moved = self.stream.with(context, |stream, context| stream.poll_write(context, from));
        self.watch(context, moved)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.with(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.with(context, |stream, context| stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let moved = self.stream.with(context, |stream, context| stream.poll_write_vectored(context, from));
        self.watch(context, moved)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Greeting(_) | Stream::Tls(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_closed_and_its_place_is_free_again() {
        let mut guarded = Guarded::bind("127.0.0.1:0".parse().unwrap(), 1, Duration::from_millis(50), None).unwrap();
        let address = guarded.local_addr().unwrap();
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"G").await.unwrap();
        let (mut connection, _) = guarded.accept().await;
        let mut buffer = [0; 8];
        assert_eq!(connection.read(&mut buffer).await.unwrap(), 1);
        assert_eq!(connection.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(guarded.room.available_permits(), 0);
        drop(connection);
        assert_eq!(guarded.room.available_permits(), 1);
    }
}
