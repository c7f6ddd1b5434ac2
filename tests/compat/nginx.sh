#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: nginx.sh BUILD
#
# nginx of Debian's source package with src/core/ngx_palloc.c replaced by
# weir/compat/ngx_palloc.h, and nothing else changed: static files, a reverse
# proxy with buffers and a cache, and reloads, under curl and wrk.  Every
# response is compared with what was to be sent.
#
# The source is WEIR_NGINX_SOURCE, or fetched once to BUILD/compat; without it,
# or without wrk and curl, the test is skipped.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source-path=SCRIPTDIR
source ./_source.sh

root=$(cd ../.. && pwd)
build=$(cd "${1:?usage: nginx.sh BUILD}" && pwd)
work=$build/compat
nginx=$work/nginx
run=$work/nginx-run
seconds=2
[[ -z ${WEIR_TEST_LONG-} ]] || seconds=20

[[ -z ${WEIR_TEST_QUICK-} ]] || skip "takes a minute; not in the quick run"
for tool in make cc curl wrk python3; do
	command -v "$tool" >/dev/null || skip "needs $tool"
done
[[ -f $build/libweir.a ]] || skip "needs the static library"

# ---- build ---------------------------------------------------------------

mkdir -p "$work"
source=${WEIR_NGINX_SOURCE-}
[[ -n $source ]] || source=$(debian_source nginx "$work/source" \
	2>"$work/source.log") || skip "no source of nginx: offline, or no Debian"
[[ -f $source/src/core/ngx_palloc.c ]] || skip "no nginx in $source"

build_nginx() {
	local zlib=--without-http_gzip_module
	[[ ! -f /usr/include/zlib.h ]] || zlib=

	rm -rf "$nginx"
	cp -r "$source" "$nginx"
	cat >"$nginx/src/core/ngx_palloc.c" <<-'CODE'
		#include <ngx_config.h>
		#include <ngx_core.h>
		#define WEIR_COMPAT_IMPLEMENTATION
		#include <weir/compat/ngx_palloc.h>
	CODE
	cd "$nginx"
	# shellcheck disable=SC2086 # an option, or none
	./configure --with-cc-opt="-O0 -g0 -I$root/include" \
		--with-ld-opt="$build/libweir.a -lpthread" --with-threads \
		--with-http_v2_module --with-http_realip_module \
		--without-pcre \
		--without-http_rewrite_module $zlib
	make -j2
}

# Made again when the shim or the library is newer.
stamp=$work/nginx-built
if [[ ! -f $stamp || $build/libweir.a -nt $stamp ||
	$root/include/weir/compat/ngx_palloc.h -nt $stamp ]]; then
	rm -f "$stamp"
	if [[ -f $nginx/objs/Makefile ]]; then
		touch "$nginx/src/core/ngx_palloc.c"
		rm -f "$nginx/objs/nginx"
		(cd "$nginx" && make -j2)
	else
		(build_nginx)
	fi >"$work/nginx.log" 2>&1 || {
		tail -n 30 "$work/nginx.log" >&2
		fail "nginx does not build"
	}
	touch "$stamp"
fi
nm "$nginx/objs/nginx" | grep ' [Tt] weir_region_create$' >/dev/null ||
	fail "this nginx has no regions"
changed=$(diff -rq "$source/src" "$nginx/src" | grep -vc '/ngx_palloc.c ') || :
[[ $changed == 0 ]] || fail "more than ngx_palloc.c was changed"

# ---- configuration -------------------------------------------------------

read -r front back two < <(free_ports 3)
rm -rf "$run"
mkdir -p "$run/html" "$run/logs"
python3 - "$run/html" <<-'PYTHON'
	import random, sys
	random.seed(7)
	for size in (40, 1000, 4095, 4096, 4097, 16384, 70000, 300000):
	    # The first line tells whoever gets it what it has to be.
	    text = f"{size}\n"
	    text += "".join(random.choices("0123456789abcdef\n", k=size - len(text)))
	    with open(f"{sys.argv[1]}/{size}", "w", encoding="ascii") as file:
	        file.write(text)
PYTHON
: >"$run/html/empty"
cat >"$run/nginx.conf" <<-CONF
	$( ((EUID != 0)) || echo "user root;")
	worker_processes 2;
	worker_rlimit_nofile 600;
	pid $run/nginx.pid;
	error_log $run/logs/error.log notice;
	events { worker_connections 256; }
	http {
		access_log off;
		client_body_temp_path $run/body;
		proxy_temp_path $run/proxy;
		fastcgi_temp_path $run/fastcgi;
		uwsgi_temp_path $run/uwsgi;
		scgi_temp_path $run/scgi;
		proxy_cache_path $run/cache keys_zone=cache:1m max_size=8m;
		keepalive_requests 200;
		upstream back { server 127.0.0.1:$back; keepalive 8; }
		server {
			listen 127.0.0.1:$front;
			root $run/html;
			location /proxy/ {
				proxy_pass http://back/;
				proxy_http_version 1.1;
				proxy_set_header Connection "";
				proxy_buffer_size 1k;
				proxy_buffers 4 2k;
				proxy_busy_buffers_size 2k;
			}
			location /cached/ {
				proxy_pass http://back/;
				proxy_cache cache;
				proxy_cache_valid 200 1s;
			}
			location /ssi/ { alias $run/html/; ssi on; ssi_types *; }
			location /list/ { alias $run/html/; autoindex on; }
		}
		server {
			listen 127.0.0.1:$two http2;
			root $run/html;
			location /proxy/ { proxy_pass http://back/; }
		}
		server {
			listen 127.0.0.1:$back;
			root $run/html;
			location /echo { client_max_body_size 1m;
				client_body_buffer_size 1k;
				proxy_pass http://127.0.0.1:$back/40;
				proxy_method GET; proxy_pass_request_body on; }
		}
	}
CONF
cat >"$run/check.lua" <<-'LUA'
	-- Files from the list in turn; each answer is the whole of one of them.
	local names = {"40", "1000", "4095", "4096", "4097", "16384", "70000"}
	local texts, at, threads = {}, 0, {}
	function setup(thread) table.insert(threads, thread) end
	function init(arguments)
	   wrong, right = 0, 0
	   base = arguments[1]
	   for _, name in ipairs(names) do
	      local file = assert(io.open(arguments[2] .. "/" .. name, "rb"))
	      texts[name] = file:read("*a")
	      file:close()
	   end
	end
	function request()
	   at = at % #names + 1
	   return wrk.format("GET", base .. names[at])
	end
	function response(status, headers, body)
	   if status == 200 and texts[body:match("^(%d+)\n")] == body then
	      right = right + 1
	   else
	      wrong = wrong + 1
	   end
	end
	function done()
	   local rights, wrongs = 0, 0
	   for _, thread in ipairs(threads) do
	      rights = rights + thread:get("right")
	      wrongs = wrongs + thread:get("wrong")
	   end
	   print("checked " .. rights .. " right " .. wrongs .. " wrong")
	end
LUA

# ---- the run -------------------------------------------------------------

control() { "$nginx/objs/nginx" -p "$run" -c "$run/nginx.conf" "$@"; }

# ends SECONDS/10: has the master gone within that time?
ends() {
	for ((i = 0; i < $1; i++)); do
		kill -0 "$master" 2>/dev/null || return 0
		sleep 0.1
	done
	return 1
}

master=
finish() {
	[[ -n $master ]] && kill -TERM "$master" 2>/dev/null || return 0
	ends 50 || kill -KILL -- "$master" || :
}
trap finish EXIT
control 2>"$run/logs/start.log" || {
	cat "$run/logs/start.log" >&2
	fail "nginx does not start"
}
for _ in {1..50}; do
	[[ ! -s $run/nginx.pid ]] || break
	sleep 0.1
done
master=$(<"$run/nginx.pid")

# get PORT PATH FILE [CURL OPTION...]: what comes is what the file holds.
get() {
	local port=$1 path=$2 file=$3
	shift 3
	curl -sS --fail --max-time 20 "$@" -o "$run/got" \
		"http://127.0.0.1:$port$path" || fail "$path: curl"
	cmp -s "$run/got" "$run/html/$file" || fail "$path is not $file"
}

responses=0
for way in / /proxy/ /cached/ /ssi/; do
	for path in "$run"/html/*; do
		name=${path##*/}
		get "$front" "$way$name" "$name"
		responses=$((responses + 1))
	done
done
for way in / /proxy/; do
	for path in "$run"/html/*; do
		name=${path##*/}
		get "$two" "$way$name" "$name" --http2-prior-knowledge
		responses=$((responses + 1))
	done
done
# Ranges, a request header too large for the first buffer, an answer that is
# a list of its own, an error page, a body that is buffered in a file.
curl -sS --max-time 20 -r 100-5099 -o "$run/got" \
	"http://127.0.0.1:$front/70000"
cmp -s "$run/got" <(tail -c +101 "$run/html/70000" | head -c 5000) ||
	fail "a range is wrong"
get "$front" /1000 1000 -H "X-Long: $(printf 'x%.0s' {1..6000})"
curl -sS --fail --max-time 20 "http://127.0.0.1:$front/list/" |
	grep 'href="70000"' >/dev/null || fail "no list of files"
[[ $(curl -sS --max-time 20 -o /dev/null -w '%{http_code}' \
	"http://127.0.0.1:$front/no-such-file") == 404 ]] || fail "no 404"
curl -sS --fail --max-time 20 --data-binary "@$run/html/300000" \
	-o "$run/got" "http://127.0.0.1:$front/proxy/echo" ||
	fail "a body of 300,000 bytes"
cmp -s "$run/got" "$run/html/40" || fail "the answer to a body is wrong"
responses=$((responses + 5))

# load NAME BASE: wrk over the files, while the configuration is loaded anew.
load() {
	local out right wrong wrk
	wrk -t 1 -c 24 -d "${seconds}s" --timeout 10s -s "$run/check.lua" \
		"http://127.0.0.1:$front" -- "$2" "$run/html" \
		>"$run/wrk" 2>&1 &
	wrk=$!
	for _ in 1 2 3; do
		sleep 0.4
		control -s reload 2>>"$run/logs/start.log" || fail "reload"
	done
	wait "$wrk" || {
		cat "$run/wrk" >&2
		fail "wrk, $1"
	}
	out=$(grep '^checked ' "$run/wrk") || fail "wrk checked nothing, $1"
	read -r _ right _ wrong _ <<<"$out"
	((wrong == 0 && right > 100)) || {
		cat "$run/wrk" >&2
		fail "$1: $out"
	}
	responses=$((responses + right))
	echo "$1: $right responses right, none wrong, 3 reloads"
}
load static /
load proxy /proxy/
load cache /cached/

kill -QUIT "$master"
ends 100 || fail "nginx does not end"
master=
if grep -E '\[(crit|alert|emerg)\]|on signal' "$run/logs/error.log" >&2; then
	fail "nginx complained"
fi
echo "nginx over regions: $responses responses, all as they should be"
