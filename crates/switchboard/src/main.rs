//! The `switchboard` program: arguments, configuration, signals, exit code. Everything else is the library.

use std::io::Write;
use std::process::ExitCode;

use switchboard::cli::{self, Command, Serve};
use switchboard::server::{Server, raise_file_limit};
use switchboard::telemetry;
use tokio::signal::unix::{Signal, SignalKind, signal};

fn main() -> ExitCode {
    let cwd = std::env::current_dir().unwrap_or_default();
    match cli::run(std::env::args_os(), std::env::vars_os(), cwd) {
        Command::Exit(output) => output.emit(),
        Command::Serve(serve) => {
            telemetry::init(&serve.loaded.config.log);
            raise_file_limit();
            let served = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .map_err(|error| format!("the runtime could not be started: {error}"))
                .and_then(|runtime| runtime.block_on(serve_until_stopped(*serve)));
            match served {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => {
                    let _ = writeln!(std::io::stderr(), "switchboard: {reason}");
                    ExitCode::from(cli::EXIT_USAGE)
                }
            }
        }
    }
}

async fn serve_until_stopped(serve: Serve) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut terminate = signal(SignalKind::terminate()).map_err(text)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(text)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(text)?;
    let mut server = Server::builder(serve.loaded.config).start().await.map_err(|error| error.to_string())?;
    // Scripts wait for this line; a closed standard output is no reason to end.
    let _ = writeln!(std::io::stdout(), "{}", server.ready_line());

    loop {
        tokio::select! {
            Some(()) = terminate.recv() => break,
            Some(()) = interrupt.recv() => break,
            Some(()) = hang_up.recv() => reload(&server),
            reason = server.failed() => return Err(reason),
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
