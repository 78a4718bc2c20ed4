//! The commands on docs/docker.md, as their readers type them.

mod docked;

use docked::{Engine, Setup};
use tapswitch_tests::{Who, page_commands};

/// What the page calls by the names that people know.
const IMAGES: &str = "
    tar -C /run/room/rootfs -c . | docker import -c 'ENV PATH=/usr/bin:/bin' - busybox
    tar -C /run/room/rootfs -c . | docker import -c 'ENV PATH=/usr/bin:/bin' -c 'CMD redis-server --protected-mode no' - redis
";

#[test]
fn the_page_s_commands_work_as_root() {
    let engine = Engine::furnish(Setup::default());
    // There is no systemd in the room.
    engine.as_root(&format!(
        "mkdir /run/room/page
cat >/usr/local/bin/systemctl <<'END'
         set -e
         [ \"$*\" = 'restart docker' ]
         dockerd >/run/room/page/log 2>&1 &
         until docker version >/dev/null 2>&1; do sleep 0.1; done
         {IMAGES}
END
         chmod +x /usr/local/bin/systemctl"
    ));
    let said = engine.ok(&format!("cd /run/room/page; set -x\n{}", page_commands("docker.md", "# ")));
    for needle in ["1 packets received", "10.94.0.7/24", "8080->80/tcp", "/var/run/docker/netns/"] {
        assert!(said.contains(needle), "{needle}: {said}");
    }
    engine.has_no_bridge();
}

#[test]
fn the_page_s_commands_for_a_rootless_engine_work_as_root() {
    let mut engine = Engine::furnish(Setup { who: Who::User, ..Setup::default() });
    engine.start_dockerd();
    engine.ok(IMAGES);
    let said = engine.ok(&format!("set -x\n{}", page_commands("docker.md", "$ ")));
    assert!(said.contains("1 packets received"), "{said}");
    engine.ok("docker rm -f db && docker network rm web && tapswitch down");
}
