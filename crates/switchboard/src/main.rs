//! The `switchboard` program: arguments, configuration, signals, exit code. Everything else is the library.

mod heap;

use std::io::Write;
use std::process::ExitCode;

use switchboard::cli::{self, Command, Serve};
use switchboard::server::{Server, raise_file_limit};
use switchboard::telemetry;
use tokio::signal::unix::{Signal, SignalKind, signal};

fn main() -> ExitCode {
    let cwd = std::env::current_dir().unwrap_or_default();
    match cli::run(std::env::args_os(), std::env::vars_os(), cwd) {
        Command::Ctl(ctl) => ctl.run().emit(),
        Command::Exit(output) => output.emit(),
        Command::HashPassword => cli::hash_password().emit(),
        Command::Serve(serve) => {
            let _log = telemetry::init(&serve.loaded.config.log);
            for variable in &serve.loaded.ignored_variables {
                tracing::warn!("{}", cli::ignored(variable));
            }
            raise_file_limit();
            match run(*serve) {
                Ok(()) => ExitCode::SUCCESS,
                Err(end) => {
                    let _ = writeln!(std::io::stderr(), "switchboard: {}", end.reason);
                    ExitCode::from(end.code)
                }
            }
        }
    }
}

/// Why the program ends otherwise than as planned.
struct End {
    reason: String,
    code: u8,
}

impl End {
    /// With this configuration, here and now, it does not start.
    fn start(error: impl std::fmt::Display) -> Self {
        Self { reason: error.to_string(), code: cli::EXIT_USAGE }
    }
}

fn run(serve: Serve) -> Result<(), End> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(End::start)?;
    let served = runtime.block_on(serve_until_stopped(serve));
    // Whatever still computes or reads a file has had its time.
    runtime.shutdown_background();
    served
}

async fn serve_until_stopped(serve: Serve) -> Result<(), End> {
    let mut terminate = signal(SignalKind::terminate()).map_err(End::start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(End::start)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(End::start)?;
    let builder = Server::builder(serve.loaded.config).after_storm(heap::trim);
    let mut server = builder.start().await.map_err(End::start)?;
    // Scripts wait for this line; a closed standard output is no reason to end.
    let _ = writeln!(std::io::stdout(), "{}", server.ready_line());

    loop {
        tokio::select! {
            Some(()) = terminate.recv() => break,
            Some(()) = interrupt.recv() => break,
            Some(()) = hang_up.recv() => reload(&server),
            reason = server.failed() => return Err(End { reason, code: cli::EXIT_FAILURE }),
        }
    }
    tracing::info!(connections = server.node().figures().connections, "stopping; once more stops at once");
    tokio::select! {
        () = server.stop() => tracing::info!("stopped"),
        () = either(&mut terminate, &mut interrupt) => tracing::warn!("stopped at once"),
    }
    Ok(())
}

fn reload(server: &Server) {
    match server.reload_certificates() {
        Ok(()) => tracing::info!("certificates read again"),
        Err(error) => tracing::error!(%error, "certificates stay as they are"),
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
