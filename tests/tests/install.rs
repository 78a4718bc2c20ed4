//! `tapswitch install` as root and as an ordinary user: below a prefix, in a user's folders, and on a copy of the machine; the unit
//! it makes, judged by systemd and tried within its limits.

mod plugged;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tapswitch_tests::{Container, Output, Session, Switch, Who, as_root_and_user, page_commands, run, tool};

const SOON: Duration = Duration::from_secs(30);

fn tapswitch(session: &Session, words: &[&str]) -> Output {
    let mut command = session.command("tapswitch");
    command.args(words);
    run(command, SOON)
}

/// By whoever the session is.
fn sh(session: &Session, script: &str) -> String {
    let mut command = session.command("sh");
    command.args(["-ec", script]);
    run(command, SOON).ok()
}

/// What `install --json` did to which path, without what is left to do.
fn did(answer: &str) -> Vec<(String, String)> {
    let list: Value = serde_json::from_str(answer).expect("JSON");
    let done = list.as_array().expect("an array").iter().filter(|done| done["did"] != "next");
    let text = |value: &Value| value.as_str().expect("a word").to_owned();
    done.map(|done| (text(&done["did"]), text(&done["path"]))).collect()
}

/// Everything below `folder` with its kind and its link's target, as the session's user sees it.
fn tree(session: &Session, folder: &Path) -> String {
    sh(session, &format!("find {} -printf '%P %y %l %m\\n' | sort", folder.display()))
}

fn image(session: &Session) -> PathBuf {
    let image = session.dir().join("run/image");
    sh(session, &format!("mkdir {}", image.display()));
    image
}

as_root_and_user! {
    fn an_image_is_filled_once_and_emptied_again(who: Who) {
        let session = Session::new(who);
        let image = image(&session);
        let prefix = image.to_str().unwrap();
        let all = ["install", "--docker", "--cni", "--podman", "--json", "--prefix", prefix];
        let empty = tree(&session, &image);

        let made = did(&tapswitch(&session, &all).ok());
        assert!(made.len() == 6 && made.iter().all(|(did, _)| did == "made"), "{made:?}");
        let full = tree(&session, &image);
        for path in ["opt/cni/bin/tapswitch-cni", "etc/cni/net.d/99-tapswitch.conflist", "etc/systemd/system/tapswitch.service"] {
            assert!(full.contains(path), "{full}");
        }
        let there = did(&tapswitch(&session, &all).ok());
        assert!(there.iter().all(|(did, _)| did == "there"), "{there:?}");
        assert_eq!(tree(&session, &image), full);

        tapswitch(&session, &["install", "--uninstall", "--podman", "--prefix", prefix]).ok();
        assert!(!tree(&session, &image).contains("tapswitch-oci"));
        let gone = did(&tapswitch(&session, &["install", "--uninstall", "--json", "--prefix", prefix]).ok());
        assert!(gone.len() == 3 && gone.iter().all(|(did, _)| did == "removed"), "{gone:?}");
        assert_eq!(tree(&session, &image), empty);
        assert_eq!(tapswitch(&session, &["install", "--uninstall", "--json", "--prefix", prefix]).ok(), "[]\n");
    }
}

as_root_and_user! {
    fn somebody_else_s_file_is_named_and_nothing_is_put(who: Who) {
        let session = Session::new(who);
        let image = image(&session);
        let hooks = image.join("usr/share/containers/oci/hooks.d");
        sh(&session, &format!("mkdir -p {0}; echo theirs >{0}/tapswitch.json", hooks.display()));
        let before = tree(&session, &image);
        let refused = tapswitch(&session, &["install", "--podman", "--cni", "--prefix", image.to_str().unwrap()]);
        assert_eq!(refused.code, 1, "{refused:?}");
        let error = refused.stderr.lines().last().unwrap();
        assert!(error.contains("hooks.d/tapswitch.json is there") && error.contains("nothing was changed"), "{error}");
        assert_eq!(tree(&session, &image), before);
    }
}

as_root_and_user! {
    fn where_nothing_can_be_written_the_folder_is_named_and_nothing_is_left(who: Who) {
        let session = Session::new(who);
        let image = image(&session);
        let prefix = image.display();
        // Root may write whatever a folder's mode is, but not on a read-only file system.
        let script = match who {
            Who::Root => format!("mount --make-rprivate /; mount -t tmpfs -o ro none {prefix}"),
            Who::User => format!("chmod 555 {prefix}"),
        };
        let script = format!("{script}; exec \"$0\" install --cni --prefix {prefix}");
        let mut command = session.command(if who == Who::Root { "unshare" } else { "env" });
        if who == Who::Root {
            command.arg("--mount");
        }
        command.args(["sh", "-ec", &script]).arg(session.program("tapswitch"));
        let refused = run(command, SOON);
        assert_eq!(refused.code, 1, "{refused:?}");
        let error = refused.stderr.lines().last().unwrap();
        assert!(error.contains("make the folder") && error.contains("nothing was changed"), "{error}");
        assert_eq!(tree(&session, &image).lines().count(), 1);
    }
}

as_root_and_user! {
    fn without_an_engine_there_is_nothing_to_put_and_no_other_folder_is_made(who: Who) {
        let session = Session::new(who);
        let image = image(&session);
        let line = tapswitch(&session, &["install", "--prefix", image.to_str().unwrap()]).one_line_of_failure(1);
        assert!(line.contains("no engine is here") && line.contains("--docker"), "{line}");
        let nowhere = image.join("nowhere");
        let line = tapswitch(&session, &["install", "--cni", "--prefix", nowhere.to_str().unwrap()]).one_line_of_failure(1);
        assert!(line.contains("nowhere"), "{line}");
        assert_eq!(tree(&session, &image).lines().count(), 1);
        sh(&session, &format!("mkdir -p {0}/usr/sbin; touch {0}/usr/sbin/dockerd", image.display()));
        let done = tapswitch(&session, &["install", "--json", "--prefix", image.to_str().unwrap()]).ok();
        assert!(matches!(&did(&done)[..], [(did, unit)] if did == "made" && unit.ends_with("tapswitch.service")), "{done}");
        assert!(done.contains("daemon.json") && done.contains("docker run"), "{done}");
    }
}

#[test]
fn a_user_s_own_folders_are_filled_and_left_as_they_were_as_root() {
    let session = Session::new(Who::User);
    let home = session.dir();
    // The record is there in place of the daemon's own state.
    let before = tree(&session, home);
    tapswitch(&session, &["install", "--docker", "--cni", "--podman"]).ok();
    let unit = sh(&session, &format!("cat {}/.config/systemd/user/tapswitch.service", home.display()));
    assert!(unit.contains("--docker-plugin") && unit.contains("default.target"), "{unit}");
    let spec = sh(&session, &format!("cat {}/.local/lib/docker/plugins/tapswitch.spec", home.display()));
    assert_eq!(spec, format!("unix://{}/run/tapswitch/docker.sock\n", home.display()));
    let list = sh(&session, &format!("cat {}/.config/cni/net.d/99-tapswitch.conflist", home.display()));
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["plugins"][0]["socket"], json!(session.socket()));
    let link = sh(&session, &format!("{}/.local/libexec/netavark/tapswitch info", home.display()));
    assert!(link.contains("api_version"), "{link}");
    tapswitch(&session, &["install", "--uninstall"]).ok();
    assert_eq!(tree(&session, home), before);
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit_as_root() {
    let session = Session::new(Who::Root);
    let image = image(&session);
    for flags in [&["--cni"][..], &["--docker", "--podman"]] {
        let prefix = image.to_str().unwrap();
        tapswitch(&session, &[&["install", "--prefix", prefix], flags].concat()).ok();
        let mut command = session.command("systemd-analyze");
        command
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(image.join("etc/systemd/system/tapswitch.service"));
        let said = run(command, SOON);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    }
}

/// What of the unit can be had without systemd: its capabilities, no new ones, its read-only folders; and that the process it
/// starts says that it serves.
#[test]
fn the_daemon_serves_within_the_limits_of_its_unit_as_root() {
    let session = Rc::new(Session::new(Who::Root));
    let image = image(&session);
    tapswitch(&session, &["install", "--cni", "--prefix", image.to_str().unwrap()]).ok();
    let unit = std::fs::read_to_string(image.join("etc/systemd/system/tapswitch.service")).unwrap();
    let setting =
        |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {unit}"));
    let bounds = setting("CapabilityBoundingSet=").split(' ').map(|cap| cap.trim_start_matches("CAP_").to_lowercase());
    let bounds = bounds.fold("-all".to_owned(), |all, cap| format!("{all},+{cap}"));
    assert_eq!([setting("NoNewPrivileges="), setting("ProtectSystem="), setting("Type=")], ["yes", "full", "notify"]);

    let notify = UnixDatagram::bind(session.dir().join("notify")).unwrap();
    notify.set_read_timeout(Some(SOON)).unwrap();
    let script = format!(
        "mount --make-rprivate /; for folder in /usr /etc; do mount --bind $folder $folder; mount -o remount,bind,ro $folder; done
        exec {} --bounding-set={bounds} --no-new-privs \"$@\"",
        tool("setpriv").display()
    );
    let mut command = session.command("unshare");
    let up = Switch::up(&session, &[]);
    command.args(["--mount", "sh", "-ec", &script, "sh"]).arg(session.program("tapswitch")).args(up.get_args());
    command.env("NOTIFY_SOCKET", session.dir().join("notify"));
    let switch = Switch::start_command(Rc::clone(&session), command);
    let mut said = [0; 64];
    let length = notify.recv(&mut said).expect("it says that it serves");
    assert_eq!(&said[..length], b"READY=1");

    let (a, b) = (Container::new(&switch, "a"), Container::new(&switch, "b"));
    assert!(a.reaches(b.ipv4()) && a.reaches(b.ipv6()));
    switch.ok(&["publish", "a", "80"]);
}

#[test]
fn doctor_finds_docker_s_plugin_where_dockerd_does_as_root() {
    let session = Session::new(Who::Root);
    let script = "
        unset TAPSWITCH_SOCKET
        : >/usr/local/sbin/dockerd
        $TS doctor
        $TS up -d --docker-plugin
        $TS doctor
        $TS down
        $TS doctor";
    let said = run(plugged::on_a_machine(&session, script), SOON).ok();
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("docker plugin")).collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert_eq!(lines[1], "ok    docker plugin   answers at /run/docker/plugins/tapswitch.sock", "{said}");
    for line in [lines[0], lines[2]] {
        assert!(line.starts_with("warn") && line.contains("--docker-plugin"), "{line}");
    }
}

#[test]
fn the_page_s_commands_work_as_root() {
    let session = Session::new(Who::Root);
    let built = session.dir().join("target/release");
    std::fs::create_dir_all(&built).unwrap();
    std::fs::copy(tapswitch_tests::program("tapswitch"), built.join("tapswitch")).unwrap();
    let script = format!("cd $S; set -x\n{}find /etc /opt /usr -name '*tapswitch*'", page_commands("install.md", "# "));
    let said = run(plugged::on_a_machine(&session, &script), SOON).ok();
    for needle in
        ["made     /etc/cni/net.d/99-tapswitch.conflist", "ok    cni plugin", "removed  /usr/local/bin/tapswitch-oci"]
    {
        assert!(said.contains(needle), "{needle}: {said}");
    }
    // From inside of the image the program is where the image has it; and what remains is what was copied.
    assert!(said.contains("\n/usr/local/bin/tapswitch\nremoved  /srv/image"), "{said}");
    assert!(said.ends_with("\n/usr/local/bin/tapswitch\n"), "{said}");
}
