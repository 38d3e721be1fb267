#!/usr/bin/env bash
# The speech and music engines of the tiny recipe on Debian 12, as root. Everything comes from Debian's own mirror, whichever this machine uses.
#   flite, espeak-ng, festival, fluidsynth, WordNet: main;  SVOX pico: non-free;  RHVoice: non-free of Debian 13, unpacked into PREFIX, system untouched.
# RHVoice's voices evgeniy-eng and lyubov are CC-BY-NC-ND and are deleted: the recipe uses alan, bdl, clb and slt only.
set -euo pipefail
prefix=${1:-/opt/rhvoice}
apt-get update -qq
apt-get install -y -qq flite espeak-ng festival festvox-kdlpc16k fluidsynth fluid-soundfont-gm sox wordnet-base libpopt0 libao4 libportaudio2 libpulse0
mirror=$(apt-cache policy | grep -oE 'https?://[^ ]+/debian ' | head -n 1 | tr -d ' ')

fetch() { # fetch SUITE STATUS PACKAGE... : download packages of another suite with a private apt configuration
  local suite=$1 status=$2 work
  shift 2
  work=$(mktemp -d)
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  echo "deb $mirror $suite main non-free" > "$work/sources.list"
  local options=(-oDir::Etc::sourcelist="$work/sources.list" -oDir::Etc::sourceparts=/dev/null -oDir::State::Lists="$work/lists" -oDir::Cache="$work/cache"
    -oDir::State::status="$status" -oDir::Etc::preferencesparts=/dev/null -oAPT::Sandbox::User=root)
  apt-get "${options[@]}" update -qq
  (cd "$work" && apt-get "${options[@]}" download -qq "$@")
  echo "$work"
}

pico=$(fetch bookworm /var/lib/dpkg/status libttspico-utils libttspico0 libttspico-data)
dpkg -i "$pico"/*.deb

packages=$(fetch trixie /dev/null rhvoice rhvoice-english librhvoice5 librhvoice-core10 librhvoice-audio2 libc6 libgcc-s1 libstdc++6 \
  libglib2.0-0t64 libglibmm-2.4-1t64 libsigc++-2.0-0v5 libpcre2-8-0 libffi8 zlib1g libatomic1)
mkdir -p "$prefix"
for package in "$packages"/*.deb; do dpkg -x "$package" "$prefix"; done
rm -rf "$prefix"/usr/share/RHVoice/voices/{evgeniy-eng,lyubov}
[ -e /usr/share/RHVoice ] || ln -s "$prefix/usr/share/RHVoice" /usr/share/RHVoice
lib=$prefix/usr/lib/x86_64-linux-gnu
cat > /usr/local/bin/rhvoice <<EOF
#!/bin/sh
exec $lib/ld-linux-x86-64.so.2 --library-path $lib:/usr/lib/x86_64-linux-gnu $prefix/usr/bin/RHVoice-test "\$@"
EOF
chmod +x /usr/local/bin/rhvoice
echo "a short test" > /tmp/rhvoice_test.txt
rhvoice -p bdl -i /tmp/rhvoice_test.txt -o /tmp/rhvoice_test.wav && echo "engines are ready: flite, espeak-ng, festival, pico2wave, rhvoice, fluidsynth"
