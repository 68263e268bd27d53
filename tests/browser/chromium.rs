//! Debian's Chromium, without a window, whose every request goes through a proxy of the test's own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Where the page lies; a name that nobody can resolve: only the proxy has it.
const HOST: &str = "report.test";
const PATIENCE: Duration = Duration::from_secs(120);

/// A page and its header.
pub struct Served {
    /// Its Content-Security-Policy.
    pub policy: String,
    /// The page.
    pub page: String,
}

/// What came of a page.
pub struct Shown {
    /// The document after it was loaded.
    pub dom: String,
    /// What the page asked for, without an icon and without what the browser asks for on its own account.
    pub requests: Vec<String>,
}

/// The browser.
pub struct Chromium(PathBuf);

impl Chromium {
    /// The one that `GRANTLOG_CHROMIUM` names, or Debian's.
    pub fn found() -> Self {
        let named = std::env::var_os("GRANTLOG_CHROMIUM").map(PathBuf::from);
        let path = named.unwrap_or_else(|| "/usr/bin/chromium".into());
        let hint = "install it (Debian: apt-get install chromium), or name another in GRANTLOG_CHROMIUM";
        assert!(
            path.exists(),
            "this test needs a browser, and {} is not there: {hint}",
            path.display()
        );
        Self(path)
    }

    /// Opens the page and tells what became of it.
    pub async fn open(self, served: Served) -> Shown {
        let (output, requests) = self.run(served, |_| vec!["--dump-dom".into()]).await;
        Shown {
            dom: String::from_utf8(output.0).expect("UTF-8"),
            requests,
        }
    }

    /// Prints the page and gives the PDF.
    pub async fn print(self, served: Served) -> Vec<u8> {
        let (output, _) = self
            .run(served, |folder| {
                vec![
                    format!("--print-to-pdf={}", folder.join("page.pdf").display()),
                    "--no-pdf-header-footer".into(),
                ]
            })
            .await;
        output.1.expect("a PDF")
    }

    /// Standard output, the PDF if there is one, and the requests.
    async fn run(
        self,
        served: Served,
        arguments: impl FnOnce(&std::path::Path) -> Vec<String>,
    ) -> ((Vec<u8>, Option<Vec<u8>>), Vec<String>) {
        let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = proxy.local_addr().expect("an address").port();
        let (tell, mut told) = mpsc::unbounded_channel();
        let serving = tokio::spawn(serve(proxy, served, tell));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_owned();
        let arguments = arguments(&path);
        let running = tokio::task::spawn_blocking(move || {
            Command::new(self.0)
                // A test may run as root in a container, where there is no sandbox to be had.
                .args([
                    "--headless=new",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                ])
                .args([
                    "--no-first-run",
                    "--disable-background-networking",
                    "--disable-component-update",
                ])
                .args(["--disable-sync", "--disable-extensions", "--disable-default-apps"])
                .arg(format!("--user-data-dir={}", path.join("profile").display()))
                .arg(format!("--proxy-server=http://127.0.0.1:{port}"))
                .args(arguments)
                .arg(format!("http://{HOST}/report"))
                .env("HOME", &path)
                .stdin(Stdio::null())
                .output()
                .map(|output| (output, std::fs::read(path.join("page.pdf")).ok()))
        });
        let (output, pdf) = tokio::time::timeout(PATIENCE, running)
            .await
            .expect("the browser ends")
            .expect("it does not panic")
            .expect("the browser starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "the browser ended with {}: {stderr}",
            output.status
        );
        serving.abort();
        let mut requests = Vec::new();
        while let Ok(request) = told.try_recv() {
            requests.push(request);
        }
        ((output.stdout, pdf), requests)
    }
}

/// Answers for the page's host with the page, for all others with nothing, and tells what was asked for.
async fn serve(proxy: TcpListener, served: Served, tell: mpsc::UnboundedSender<String>) {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Security-Policy: {}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{}",
        served.policy,
        served.page.len(),
        served.page
    );
    while let Ok((connection, _)) = proxy.accept().await {
        let (answer, tell) = (answer.clone(), tell.clone());
        tokio::spawn(async move { exchange(connection, &answer, &tell).await });
    }
}

async fn exchange(
    mut connection: TcpStream,
    answer: &str,
    tell: &mpsc::UnboundedSender<String>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16_384 {
        head.push(connection.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let target = head.split(' ').nth(1).unwrap_or_default();
    let own = target.strip_prefix(&format!("http://{HOST}"));
    match own {
        Some("/report") => {
            let _ = tell.send("/report".into());
            connection.write_all(answer.as_bytes()).await?;
        }
        // Every browser looks for one.
        Some("/favicon.ico") => {
            connection
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                .await?
        }
        // What the browser asks its maker for has no part in the page.
        None if is_of_the_browser(target) => {}
        _ => {
            let _ = tell.send(target.to_owned());
        }
    }
    connection.shutdown().await
}

fn is_of_the_browser(target: &str) -> bool {
    const MAKERS: [&str; 4] = ["google.com", "googleapis.com", "gstatic.com", "gvt1.com"];
    let host = target
        .trim_start_matches("http://")
        .split(['/', ':'])
        .next()
        .unwrap_or_default();
    MAKERS
        .iter()
        .any(|maker| host == *maker || host.ends_with(&format!(".{maker}")))
}
