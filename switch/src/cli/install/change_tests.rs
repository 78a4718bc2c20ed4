//! Changes in a folder that stands for the host's root.

use std::collections::BTreeSet;

use tempfile::TempDir;

use super::super::engine::Engine;
use super::*;

/// A root with a file of somebody else's.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let root = Root(tempfile::tempdir().unwrap());
        fs::create_dir_all(root.path("etc/cni/net.d")).unwrap();
        fs::write(root.path("etc/cni/net.d/10-web.conflist"), "{}").unwrap();
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn places(&self) -> Places {
        Places::Host(self.0.path().into())
    }

    /// Everything in it with its content, one line each.
    fn tree(&self) -> Vec<String> {
        fn walk(folder: &Path, out: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                let kind = entry.file_type().unwrap();
                let what = match () {
                    () if kind.is_dir() => "folder".into(),
                    () if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
                    () => fs::read_to_string(&path).unwrap(),
                };
                out.push(format!("{} {what}", path.display()));
                if kind.is_dir() {
                    walk(&path, out);
                }
            }
        }
        let mut out = Vec::new();
        walk(self.0.path(), &mut out);
        out.sort();
        out
    }

    fn bring(&self, items: &[Item]) -> anyhow::Result<Vec<(Did, String)>> {
        let engines: BTreeSet<Engine> = if items.is_empty() { BTreeSet::new() } else { [Engine::Cni].into() };
        let old = Record::read(&self.places()).unwrap();
        let done = bring(&self.places(), &old, Record { engines, ..Record::default() }, items)?;
        let name = |done: &Done| done.path.as_ref().unwrap().strip_prefix(self.0.path()).unwrap().display().to_string();
        Ok(done.iter().map(|done| (done.did, name(done))).collect())
    }

    fn link(&self, path: &str, target: &str) -> Item {
        Item { path: self.path(path), what: What::Link(target.into()) }
    }

    fn file(&self, path: &str, text: &str) -> Item {
        Item { path: self.path(path), what: What::File(text.into()) }
    }

    fn both(&self) -> Vec<Item> {
        vec![self.link("opt/cni/bin/tapswitch-cni", "/usr/bin/tapswitch"), self.file(LIST, "list")]
    }
}

const LIST: &str = "etc/cni/net.d/99-tapswitch.conflist";

#[test]
fn what_was_put_is_known_again_and_taken_away_to_the_last_folder() {
    let root = Root::new();
    let before = root.tree();
    assert_eq!(
        root.bring(&root.both()).unwrap(),
        [(Did::Made, "opt/cni/bin/tapswitch-cni".into()), (Did::Made, LIST.into())]
    );
    let put = root.tree();
    let again = root.bring(&root.both()).unwrap();
    assert!(again.iter().all(|(did, _)| *did == Did::There), "{again:?}");
    assert_eq!(root.tree(), put);
    let gone = root.bring(&[]).unwrap();
    assert!(gone.iter().all(|(did, _)| *did == Did::Removed), "{gone:?}");
    assert_eq!(root.tree(), before);
    assert_eq!(root.bring(&[]).unwrap(), []);
}

#[test]
fn files_can_be_read_by_engines_of_every_user_and_the_record_s_folder_by_none() {
    let root = Root::new();
    root.bring(&root.both()).unwrap();
    let mode = |path: &str| fs::metadata(root.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(LIST), mode("opt/cni/bin"), mode("opt"), mode("var/lib/tapswitch")], [0o644, 0o755, 0o755, 0o700]);
}

#[test]
fn somebody_else_s_file_is_named_and_nothing_is_changed() {
    for what in ["file", "link", "folder"] {
        let root = Root::new();
        match what {
            "file" => fs::write(root.path(LIST), "theirs").unwrap(),
            "link" => symlink("/etc/hostname", root.path(LIST)).unwrap(),
            _ => fs::create_dir(root.path(LIST)).unwrap(),
        }
        let before = root.tree();
        let error = root.bring(&root.both()).unwrap_err().to_string();
        assert!(error.contains("99-tapswitch.conflist is there"), "{error}");
        assert_eq!(root.tree(), before);
    }
}

#[test]
fn what_is_just_what_would_be_put_is_taken_for_it() {
    let root = Root::new();
    fs::write(root.path(LIST), "list").unwrap();
    assert_eq!(root.bring(&root.both()).unwrap()[1], (Did::There, LIST.into()));
    root.bring(&[]).unwrap();
    assert!(!root.path(LIST).exists());
}

#[test]
fn ours_is_changed_with_its_options_and_left_where_somebody_has_edited_it() {
    let root = Root::new();
    root.bring(&root.both()).unwrap();
    let other = [root.link("opt/cni/bin/tapswitch-cni", "/opt/new/tapswitch"), root.file(LIST, "another list")];
    assert_eq!(root.bring(&other).unwrap().iter().map(|(did, _)| *did).collect::<Vec<_>>(), [Did::Changed; 2]);
    assert_eq!(fs::read_to_string(root.path(LIST)).unwrap(), "another list");
    assert_eq!(fs::read_link(root.path("opt/cni/bin/tapswitch-cni")).unwrap(), Path::new("/opt/new/tapswitch"));

    fs::write(root.path(LIST), "edited").unwrap();
    assert_eq!(
        root.bring(&root.both()).unwrap(),
        [(Did::Changed, "opt/cni/bin/tapswitch-cni".into()), (Did::Left, LIST.into())]
    );
    let gone = root.bring(&[]).unwrap();
    assert!(gone.contains(&(Did::Left, LIST.into())), "{gone:?}");
    assert_eq!(fs::read_to_string(root.path(LIST)).unwrap(), "edited");
    assert!(!root.path("opt").exists() && !root.path("var").exists());
}

#[test]
fn a_folder_that_others_use_by_now_stays() {
    let root = Root::new();
    root.bring(&root.both()).unwrap();
    fs::write(root.path("opt/cni/bin/bridge"), "").unwrap();
    root.bring(&[]).unwrap();
    assert!(root.path("opt/cni/bin/bridge").exists() && !root.path("opt/cni/bin/tapswitch-cni").exists());
}

#[test]
fn a_step_that_fails_undoes_those_before_it() {
    let root = Root::new();
    root.bring(&root.both()).unwrap();
    // A file where a folder is to be: the last step cannot be done, whoever does it.
    fs::write(root.path("etc/systemd"), "").unwrap();
    let before = root.tree();
    let items = [
        root.link("opt/cni/bin/tapswitch-cni", "/opt/new/tapswitch"),
        root.file("etc/new/file", "new"),
        root.file("etc/systemd/system/tapswitch.service", "unit"),
    ];
    let error = format!("{:#}", root.bring(&items).unwrap_err());
    assert!(error.contains("nothing was changed") && error.contains("etc/systemd"), "{error}");
    assert_eq!(root.tree(), before);
}

#[test]
fn who_was_interrupted_goes_on_or_takes_all_away() {
    let root = Root::new();
    let items = root.both();
    let old = Record::default();
    let mut steps = Steps { places: &root.places(), journal: Vec::new(), done: Vec::new() };
    let interim = old.with(&root.places(), &items, &steps.missing_folders(&items, &[Did::Made; 2]));
    steps.record(&old, &interim).unwrap();
    steps.make(&items[0]).unwrap();
    let done = root.bring(&items).unwrap();
    assert_eq!(done.iter().map(|(did, _)| *did).collect::<Vec<_>>(), [Did::There, Did::Made]);
    root.bring(&[]).unwrap();
    assert!(!root.path("opt").exists() && !root.path("var").exists());
}

#[test]
fn nothing_is_put_or_removed_through_a_link_that_leads_out() {
    for (link, to) in
        [("opt", "elsewhere"), ("opt/cni", "elsewhere"), ("etc/cni/net.d", "nowhere"), ("var", "elsewhere")]
    {
        let (root, elsewhere) = (Root::new(), tempfile::tempdir().unwrap());
        let places = root.places();
        if root.path(link).exists() {
            fs::rename(root.path(link), root.path("etc/moved")).unwrap();
        }
        fs::create_dir_all(root.path(link).parent().unwrap()).unwrap();
        let target = if to == "nowhere" { elsewhere.path().join("nowhere") } else { elsewhere.path().into() };
        symlink(target, root.path(link)).unwrap();
        let before = root.tree();
        let old = Record::read(&places);
        let put = old.and_then(|old| bring(&places, &old, Record::default(), &root.both()));
        let error = format!("{:#}", put.unwrap_err());
        assert!(error.contains(link), "{error}");
        assert_eq!(root.tree(), before, "{link}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "{link}");
    }
}

#[test]
fn a_link_that_leads_elsewhere_in_the_same_root_is_followed() {
    let root = Root::new();
    fs::create_dir_all(root.path("usr/opt")).unwrap();
    symlink("usr/opt", root.path("opt")).unwrap();
    let before = root.tree();
    root.bring(&root.both()).unwrap();
    assert!(root.path("usr/opt/cni/bin/tapswitch-cni").is_symlink());
    root.bring(&[]).unwrap();
    assert_eq!(root.tree(), before);
}

#[test]
fn a_record_that_leads_out_is_not_gone_by() {
    let outer = tempfile::tempdir().unwrap();
    let image = outer.path().join("image");
    fs::create_dir_all(&image).unwrap();
    let places = Places::Host(image.clone());
    let theirs = outer.path().join("theirs");
    symlink("/usr/bin/tapswitch", &theirs).unwrap();
    let folder = outer.path().join("empty");
    fs::create_dir(&folder).unwrap();
    let put = Put { path: "/../theirs".into(), mark: Mark::Link("/usr/bin/tapswitch".into()) };
    for old in [
        Record { put: vec![put], ..Record::default() },
        Record { folders: vec!["/../empty".into()], ..Record::default() },
    ] {
        let error = format!("{:#}", bring(&places, &old, Record::default(), &[]).unwrap_err());
        assert!(error.contains("..") && error.contains("nothing was changed"), "{error}");
        assert!(theirs.is_symlink() && folder.is_dir());
    }
    fs::create_dir_all(places.state()).unwrap();
    symlink(&theirs, Record::path(&places)).unwrap();
    assert!(format!("{:#}", Record::read(&places).unwrap_err()).contains("link"));
}
