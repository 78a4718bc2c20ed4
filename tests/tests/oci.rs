//! The OCI hook, started as a runtime starts it: the container's state on stdin.

mod plugged;

use serde_json::json;
use tapswitch_tests::{Container, Switch, Who, as_root_and_user};

use plugged::Answer;

fn hook(switch: &Switch, id: &str, status: &str, pid: u32, annotations: &serde_json::Value) -> Answer {
    let state = json!({"ociVersion": "1.0.2", "id": id, "status": status, "pid": pid, "bundle": "/b", "annotations": annotations});
    let mut command = switch.session().command("tapswitch");
    command.arg("oci");
    Answer::of(plugged::start(command, &state.to_string()))
}

as_root_and_user! {
    fn a_container_is_attached_by_its_annotation_and_detached_by_its_id(who: Who) {
        let switch = Switch::start(who, &[]);
        let (a, b) = (Container::unattached(switch.session()), Container::new(&switch, "b"));
        let wanted = json!({
            "org.tapswitch.network": "default", "org.tapswitch.name": "web", "org.tapswitch.aliases": "www",
            "org.tapswitch.mac": "02:00:00:00:00:99", "io.podman.annotations.x": "y",
        });
        let id = "232544a6bb605e86f47d91974290e6974761e49e59726e99352be200d7cdd283";
        hook(&switch, id, "creating", a.pid(), &wanted).silent();
        let web = switch.endpoint("web").expect("it has the annotation's name");
        assert_eq!((&web["netns"], &web["mac"]), (&json!(format!("oci:{id}")), &json!("02:00:00:00:00:99")));
        assert_eq!(web["aliases"], json!(["www"]));
        assert!(a.reaches(b.ipv4()));
        for _ in 0..2 {
            hook(&switch, id, "stopped", 0, &wanted).silent();
            assert!(!a.has_device("eth0") && switch.endpoint("web").is_none());
        }
        assert!(switch.endpoint("b").is_some());
    }
}

as_root_and_user! {
    fn other_containers_are_left_alone_and_errors_end_the_start(who: Who) {
        let switch = Switch::start(who, &[]);
        let a = Container::unattached(switch.session());
        hook(&switch, "c1", "creating", a.pid(), &json!({"io.podman.annotations.x": "y"})).silent();
        assert!(!a.has_device("eth0"));
        for (pid, annotations, needle) in [
            (a.pid(), json!({"org.tapswitch.network": "nowhere"}), "nowhere"),
            (a.pid(), json!({"org.tapswitch.network": "default", "org.tapswitch.ipp": "x"}), "org.tapswitch.ipp"),
            (a.pid(), json!({"org.tapswitch.network": "default", "org.tapswitch.ip": "10.9.8.7"}), "10.9.8.7"),
            (0, json!({"org.tapswitch.network": "default"}), "no process"),
            (std::process::id(), json!({"org.tapswitch.network": "default"}), ""),
        ] {
            let said = hook(&switch, "c1", "creating", pid, &annotations);
            assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
            assert!(said.stderr.lines().count() == 1 && said.stderr.contains(needle), "{said:?}");
        }
        assert_eq!(switch.json(&["ls"]), json!([]));
        assert!(!a.has_device("eth0"));
    }
}

#[test]
fn the_page_s_commands_work_as_root() {
    let switch = Switch::start(Who::Root, &[]);
    let dir = switch.session().dir().to_owned();
    let (bin, hooks) = (dir.join("bin"), dir.join("hooks.d"));
    std::fs::create_dir(&hooks).unwrap();
    let program = tapswitch_tests::program("tapswitch");
    let places = [
        ("/usr/local/bin/tapswitch-oci", bin.join("tapswitch-oci")),
        ("/usr/local/bin/tapswitch", program),
        ("/usr/share/containers/oci/hooks.d", hooks.clone()),
    ];
    let places: Vec<_> = places.iter().map(|(from, to)| (*from, to.as_path())).collect();
    let said = plugged::run_page(&switch, "oci.md", &places);
    assert!(said.contains("oci:web1"), "{said}");
    let hook: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(hooks.join("tapswitch.json")).unwrap()).unwrap();
    assert_eq!(hook["stages"], json!(["createRuntime", "poststop"]));
    assert_eq!(switch.json(&["ls"]), json!([]));
}
