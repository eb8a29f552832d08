//! The port, and the service's life on it.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::{HttpServer, web};

use super::{Services, StartupError};
use crate::config::{Config, Role};
use crate::state::AppState;

/// The service, bound to its port and not yet answering.
pub struct App {
    services: Services,
    address: SocketAddr,
    server: Server,
}

impl App {
    /// Opens everything and binds the port.
    ///
    /// # Errors
    /// See [`StartupError`].
    pub async fn build(config: Config) -> Result<Self, StartupError> {
        let listen = config.listen;
        let drain = config.limits.drain_max();
        let mut services = Services::open(config).await?;
        match bind(&services, listen).await {
            Ok(listener) => {
                let address = listener.local_addr().map_err(StartupError::Server)?;
                let state = Arc::clone(services.state());
                let server = serve(state, listener, drain.as_secs())?;
                services.start_workers();
                Ok(Self {
                    services,
                    address,
                    server,
                })
            }
            Err(error) => {
                services.close().await?;
                Err(error)
            }
        }
    }

    /// The port that the service is bound to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address that the service is bound to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the journeys need.
    #[must_use]
    pub fn state(&self) -> &Arc<AppState> {
        self.services.state()
    }

    /// Answers requests until `stop` completes; then workers hand their jobs back, requests under
    /// way finish, the sequencer records what is queued, and everything is closed.
    ///
    /// # Errors
    /// When the server fails, or the sequencer stops: nothing could be recorded any more then,
    /// so nothing may be answered.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), StartupError> {
        let Self {
            mut services,
            server,
            ..
        } = self;
        let handle = server.handle();
        let mut serving = tokio::spawn(server);
        let ended = tokio::select! {
            () = stop => Ok(()),
            error = services.sequencer_stopped() => Err(error),
            served = &mut serving => match served {
                Ok(served) => served.map_err(StartupError::Server),
                Err(_) => Err(StartupError::Interrupted),
            },
        };
        services.begin_stop();
        if !serving.is_finished() {
            handle.stop(true).await;
        }
        let closed = services.close().await;
        ended.and(closed)
    }
}

/// Binds the port. Without any client key only loopback addresses are accepted: whoever reaches
/// the service could generate and score in its name. A worker answers nothing of the kind.
async fn bind(services: &Services, listen: SocketAddr) -> Result<TcpListener, StartupError> {
    let takes_orders = services.state().config.role != Role::Worker;
    let keys_exist = services.state().ledger.has_clients().await?;
    if takes_orders && !keys_exist {
        if !listen.ip().to_canonical().is_loopback() {
            return Err(StartupError::NoClientKeys { listen });
        }
        tracing::info!("no client key exists: this machine alone may call, without a key");
    }
    TcpListener::bind(listen).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartupError::PortInUse { listen },
        _ => StartupError::Listen { listen, source },
    })
}

fn serve(
    state: Arc<AppState>,
    listener: TcpListener,
    drain_s: u64,
) -> Result<Server, StartupError> {
    let state = web::Data::from(state);
    let server = HttpServer::new(move || crate::routes::app(state.clone()))
        .shutdown_timeout(drain_s)
        // A client that closes its side has left: its work is dropped and the turn is free.
        .h1_allow_half_closed(false)
        .disable_signals()
        .listen(listener)
        .map_err(StartupError::Server)?
        .run();
    Ok(server)
}

/// Completes when the process is asked to end (SIGTERM) or interrupted (SIGINT).
pub async fn termination() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without signals there is nothing to wait for but the end itself.
        _ => std::future::pending().await,
    }
}
