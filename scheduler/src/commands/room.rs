//! `room`: the control room in a browser, until SIGINT or SIGTERM.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use registry::{Database, Signals};
use storage::Place;
use terminal::Usage;
use tokio::net::TcpListener;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  scheduler room
  scheduler room --bind 127.0.0.1:8200
  scheduler room --try-here
  scheduler room --data data --tables configs/evaluation --profile my-lab.toml
  scheduler room --bind 0.0.0.0:8100 --public --name lab.example
  scheduler room --alerts alerts.toml")]
pub struct Arguments {
    /// Address to listen on; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8100")]
    bind: String,
    /// Listen to other machines too; the pages are served without TLS, so put a proxy before them that has it
    #[arg(long)]
    public: bool,
    /// A host name that browsers may reach this server by, beside that of --bind; may be repeated
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// TOML file that says where alerts are sent to: webhooks, mail (docs/room.md)
    #[arg(long, value_name = "FILE")]
    alerts: Option<PathBuf>,
    /// A dataset, or a folder with datasets in it, to show beside those that runs read; may be repeated
    #[arg(long, value_name = "PLACE")]
    data: Vec<Place>,
    /// A table of results, or a folder with tables; may be repeated [default with --profile: configs/evaluation]
    #[arg(long, value_name = "PATH", requires = "profile")]
    tables: Vec<PathBuf>,
    /// Where this laboratory has what the tables name, such as configs/evaluation/profiles/paper.toml
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Folder of the programs that submit and make tables [default: that of this program]
    #[arg(long, value_name = "FOLDER", env = "PALETTE_BIN")]
    bin: Option<PathBuf>,
    /// Make the pictures that people try beside this server, not on a worker; so it is where no worker lives
    #[arg(long)]
    try_here: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(serve(arguments));
    runtime.shutdown_background();
    served
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let addresses = addresses(&arguments).await?;
    let tables = tables(arguments.tables, arguments.profile)?;
    let programs = super::programs(arguments.bin)?;
    let targets = match &arguments.alerts {
        Some(file) => room::Targets::read(file).map_err(|error| Usage::new(error.to_string()))?,
        None => room::Targets::default(),
    };
    let lease = registry::Lease::from_env()?;
    let database = Database::open().await?;
    let failed = || format!("cannot listen on {}; name another with --bind", arguments.bind);
    let listener = TcpListener::bind(addresses.as_slice()).await.with_context(failed)?;
    let address = listener.local_addr().with_context(failed)?;
    let asked = Signals::hear()?.first(|| {});
    terminal::print(&format!("control room at http://{address}"))?;
    let options = room::Options {
        database,
        programs,
        names: arguments.names,
        key: room::Key::random(),
        targets,
        lease,
        try_here: arguments.try_here,
        tables,
        data: arguments.data,
    };
    room::serve(options, listener, asked).await.with_context(failed)
}

/// The files of the tables. Of a folder they are those that end with `.toml`.
fn tables(named: Vec<PathBuf>, profile: Option<PathBuf>) -> anyhow::Result<room::Tables> {
    let Some(profile) = profile else { return Ok(room::Tables::default()) };
    let readable = |path: &Path| match path.is_file() {
        true => Ok(()),
        false => Err(Usage::new(format!("there is no file {}", path.display()))),
    };
    readable(&profile)?;
    let named = if named.is_empty() { vec![PathBuf::from("configs/evaluation")] } else { named };
    let mut files = Vec::new();
    for path in named {
        let Ok(entries) = std::fs::read_dir(&path) else {
            readable(&path)?;
            files.push(path);
            continue;
        };
        let entries = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let mut own: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
        own.sort();
        files.append(&mut own);
    }
    if files.is_empty() {
        return Err(Usage::new("no table is there; name one with --tables").into());
    }
    Ok(room::Tables { files, profile: Some(profile) })
}

/// Where to listen, all of it on this machine unless `--public` is given.
async fn addresses(arguments: &Arguments) -> anyhow::Result<Vec<SocketAddr>> {
    let bind = &arguments.bind;
    let found = tokio::net::lookup_host(bind).await;
    let addresses: Vec<SocketAddr> = found
        .map_err(|error| Usage::new(format!("--bind {bind} is no HOST:PORT: {error}")))?
        .collect();
    if !arguments.public && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(Usage::new(format!(
            "--bind {bind} is reached from other machines, and the pages are served without TLS: listen on \
             127.0.0.1 behind a proxy that has it, or say --public"
        ))
        .into());
    }
    Ok(addresses)
}
