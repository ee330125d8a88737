//! A real log shipper reads what is written: rsyslog follows a CRI log across the kubelet's rotation, takes the lines apart, and
//! what it ships is what the container printed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use tokio::time::sleep;

use crate::lab::{Case, Stage, eventually, sh, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![Stage::Shared; what_rsyslog_ships_across_rotations_is_what_was_printed]
}

/// An rsyslog of the test's own, ended with it.
struct Rsyslog {
    child: Child,
    shipped: PathBuf,
}

impl Rsyslog {
    /// Ships a CRI log's whole lines, without their heads.
    fn start(dir: &Path, log: &Path) -> Rsyslog {
        let (shipped, config) = (dir.join("shipped"), dir.join("rsyslog.conf"));
        let (dir, file, out) = (dir.display(), log.display(), shipped.display());
        let text = format!(
            r#"
            global(workDirectory="{dir}")
            module(load="imfile" mode="inotify")
            template(name="text" type="string" string="%msg:R,ERE,1,BLANK:^[^ ]+ stdout F (.*)$--end%\n")
            input(type="imfile" file="{file}" tag="cri")
            action(type="omfile" file="{out}" template="text")
            "#
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(&config).arg("-i").arg(config.with_extension("pid"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Rsyslog { child: child.expect("rsyslogd (scripts/install-test-tools.sh installs it)"), shipped }
    }

    fn shipped(&self) -> String {
        fs::read_to_string(&self.shipped).unwrap_or_default()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn what_rsyslog_ships_across_rotations_is_what_was_printed(case: Case) {
    const LINES: usize = 600;
    let pod = case.run_pod("shipped").await;
    let script = format!(
        "i=0; while [ $i -lt {LINES} ]; do echo \"$i {{\\\"said\\\": \\\"é < 漢字\\\"}}\"; i=$((i+1)); sleep 0.01; done; sleep 3600"
    );
    let config = sh("main", &script);
    let id = case.create(&pod, &config).await;
    let log = pod.log(&config);
    let rsyslog = Rsyslog::start(&case.dir, &log);
    case.cri.start(&id).await.unwrap();
    for generation in 0..4 {
        // rsyslog passes over a generation that has gone before it has looked; the kubelet leaves 10 s
        sleep(Duration::from_millis(1500)).await;
        fs::rename(&log, format!("{}.{generation}", log.display())).unwrap();
        case.cri.reopen_log(&id).await.unwrap();
    }
    let all = || async { (rsyslog.shipped().lines().count() >= LINES).then_some(()) };
    eventually("everything has been shipped", Duration::from_secs(30), all).await;
    let printed: String = (0..LINES).map(|number| format!("{number} {{\"said\": \"é < 漢字\"}}\n")).collect();
    assert_eq!(rsyslog.shipped(), printed);
    case.cri.stop(&id, 0).await.unwrap();
}
