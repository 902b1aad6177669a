#!/bin/sh
# Install the system's programs that the page's and the service's tests need (Debian, Ubuntu):
#
#   chromium            drives the page (on Ubuntu this package needs snap)
#   mosquitto           the MQTT broker that tests start on a port of their own
#   GStreamer           gst-launch-1.0 and the usual plugins: cameras given as a pipeline, RTSP
#   xvfb                a screen without a monitor, to watch one
#
# Needs root. What is there already is left as it is; running it again changes nothing. Mosquitto
# is not left running: Debian starts it as a service on port 1883, which nobody asked for.
# Without these programs the tests that need them say so and are left out.
set -eu

PACKAGES="chromium mosquitto xvfb xauth
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"

command -v apt-get >/dev/null || {
    echo "system_packages.sh: apt-get is not here; install by hand:" $PACKAGES >&2
    exit 1
}

missing=""
for package in $PACKAGES; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" ||
        missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "system_packages.sh: all there, nothing to do"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "system_packages.sh: needs root to install:$missing" >&2
    exit 1
fi

echo "system_packages.sh: installing:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # one word a package
apt-get install -y -qq --no-install-recommends $missing

case "$missing" in
    *mosquitto*)
        if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
            systemctl disable --now mosquitto
        fi
        ;;
esac
echo "system_packages.sh: done"
