# Sourced by the first process of the room's namespaces; see mod.rs. TAPSWITCH, PROBE and BUSYBOX are programs, RESOLV_CONF a
# file. What is made here is private to the room, and goes with it.
set -e
mount --make-rprivate /
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mount -t tmpfs none /home
# Another docker in there would be another version's.
mount -t tmpfs none /usr/local/bin
touch /usr/local/bin/tapswitch /usr/local/bin/tapswitch-probe
mount --bind "$TAPSWITCH" /usr/local/bin/tapswitch
mount --bind "$PROBE" /usr/local/bin/tapswitch-probe

mkdir -p /run/room/etc /home/lab /run/lock
cp -a /etc/. /run/room/etc
mount --bind /run/room/etc /etc
rm -rf /etc/docker /etc/resolv.conf
mkdir /etc/docker
cp "$RESOLV_CONF" /etc/resolv.conf

# The ordinary user, with subordinate ids for RootlessKit.
echo "lab:x:$USER_ID:$USER_ID::/home/lab:/bin/sh" >>/etc/passwd
echo "lab:x:$USER_ID:" >>/etc/group
echo "lab:231072:65536" >/etc/subuid
cp /etc/subuid /etc/subgid
mkdir -p -m 700 /run/user/$USER_ID
chown $USER_ID:$USER_ID /home/lab /run/user/$USER_ID

# A PATH for the engine with all that it starts, and no iptables, ip6tables, nft or modprobe.
mkdir -p /run/room/no-netfilter
for program in dockerd containerd containerd-shim-runc-v2 runc docker-init ps sh tar unpigz; do
    path=$(command -v $program) || continue
    ln -s "$path" /run/room/no-netfilter/$program
done

# The image's root file system: busybox, and programs with their libraries. redis-check-rdb is the server under another name.
root=/run/room/rootfs
mkdir -p $root/bin $root/usr/bin $root/etc $root/proc $root/sys $root/dev $root/tmp $root/run $root/root
cp "$BUSYBOX" $root/bin/busybox
for applet in sh cat httpd ip nslookup ping sleep true; do
    ln -s busybox $root/bin/$applet
done
echo 'root:x:0:0:root:/root:/bin/sh' >$root/etc/passwd
put() {
    cp "$1" $root/usr/bin/$2
    for library in $(ldd "$1" | grep -o '/[^ ]*'); do
        [ -e $root$library ] || { mkdir -p $root${library%/*} && cp -L $library $root$library; }
    done
}
put "$PROBE" tapswitch-probe
put "$(command -v iperf3)" iperf3
put "$(command -v redis-check-rdb)" redis-server
put "$(command -v redis-cli)" redis-cli

# Last, for what is used above may lie there.
mount -t tmpfs -o mode=1777 none /tmp

echo ready
# The shell stays, to wait for whoever loses their parent.
sleep infinity & wait
