# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# _source.sh - the source of a Debian package, for tests that build a real
# program with one file of it replaced.  Sourced by the tests of this folder.

skip() {
	echo "skipped: $*"
	exit 77
}

fail() {
	echo "FAILED: $*" >&2
	exit 1
}

# debian_source PACKAGE DIR: unpacks the source below DIR, once, and prints the
# directory it is in.  The lists it needs are its own, so that apt's settings
# stay as they are.  Fails when the source cannot be had.
debian_source() {
	local package=$1 dir=$2 found url state=$2/apt options
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg

	found=$(find "$dir/$package" -mindepth 1 -maxdepth 1 -type d -name '*-*' \
		2>/dev/null | head -n 1)
	if [[ -n $found ]]; then
		echo "$found"
		return
	fi
	command -v apt-get >/dev/null && command -v dpkg-source >/dev/null &&
		[[ -f $keyring && -f /etc/os-release ]] || return
	url=$(awk '/^URIs:/ { print $2; exit } /^deb / { print $2; exit }' \
		/etc/apt/sources.list.d/*.sources /etc/apt/sources.list \
		2>/dev/null | head -n 1)
	mkdir -p "$state/lists/partial" "$dir/$package"
	echo "deb-src [signed-by=$keyring] ${url:-http://deb.debian.org/debian}" \
		"$(. /etc/os-release && echo "${VERSION_CODENAME-stable}") main" \
		>"$state/sources.list"
	options=(-qq -o "Dir::Etc::sourcelist=$state/sources.list"
		-o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$state/lists"
		-o "Dir::Cache=$state" -o APT::Sandbox::User=root
		-o Acquire::Retries=1 -o Acquire::http::Timeout=20)
	timeout 120 apt-get "${options[@]}" update >&2 || return
	(cd "$dir/$package" &&
		timeout 120 apt-get "${options[@]}" source "$package" >&2) || {
		rm -rf "${dir:?}/$package"
		return 1
	}
	find "$dir/$package" -mindepth 1 -maxdepth 1 -type d -name '*-*' | head -n 1
}

# free_ports COUNT: as many ports of the loopback address nobody listens on.
free_ports() {
	python3 - "$1" <<-'PYTHON'
		import socket, sys
		sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
		for each in sockets:
		    each.bind(("127.0.0.1", 0))
		print(*(each.getsockname()[1] for each in sockets))
	PYTHON
}
