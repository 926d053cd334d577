//! What the servers of the bench share: they are the program, with actions of their own.

use std::process::ExitCode;

use switchboard::cli::{self, Command};
use switchboard::server::{ServerBuilder, raise_file_limit};
use switchboard::{Server, telemetry};

/// Runs the program `switchboard` with more actions, until it is killed.
pub(crate) fn serve(name: &str, with_actions: fn(ServerBuilder) -> ServerBuilder) -> ExitCode {
    let cwd = std::env::current_dir().unwrap_or_default();
    let serve = match cli::run(std::env::args_os(), std::env::vars_os(), cwd) {
        Command::Exit(output) => return output.emit(),
        Command::Ctl(ctl) => return ctl.run().emit(),
        Command::HashPassword => return cli::hash_password().emit(),
        Command::Serve(serve) => serve,
    };
    let _log = telemetry::init(&serve.loaded.config.log);
    raise_file_limit();
    let served = tokio::runtime::Builder::new_multi_thread().enable_all().build().map(|runtime| {
        runtime.block_on(async {
            match with_actions(Server::builder(serve.loaded.config)).start().await {
                Ok(mut server) => {
                    println!("{}", server.ready_line());
                    server.failed().await
                }
                Err(error) => error.to_string(),
            }
        })
    });
    // It serves until it is killed, so whatever brings it here is a failure.
    eprintln!("{name}: {}", served.unwrap_or_else(|error| error.to_string()));
    ExitCode::FAILURE
}
