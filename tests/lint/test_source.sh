#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# script/lint finds what it is there to find.  Each case is a small tree with
# one fault; the check must fail and name file, line and fault.  The same tree
# without the fault must pass, so that a check cannot fail on everything.
set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
cases=0

fail() {
	echo "FAIL $*" >&2
	exit 1
}

# A tree with nothing to find.
clean() {
	rm -rf "$tree"
	mkdir -p "$tree"/{docs,script,src/{base,os,pages},include/weir,examples}
	cp "$project/.clang-format" "$tree"
	cat >"$tree/docs/ARCHITECTURE.md" <<'END'
<!-- layers -->
| row | folders |
| --- | --- |
| pages | `src/pages` |
| os | `src/os` |
| base | `src/base` |
<!-- /layers -->
END
	echo '#define PAGES 1' >"$tree/src/pages/pages.h"
	echo '#define OS 1' >"$tree/src/os/os.h"
	echo '#include "os/os.h"' >"$tree/src/pages/pages.c"
	echo '#ifdef __linux__' >"$tree/src/os/os_linux.c"
	echo '#endif' >>"$tree/src/os/os_linux.c"
	cat >"$tree/include/weir/x.h" <<'END'
/**
 * weir_x_get() - get one.
 * @x:    where from.
 * @hook: called back.
 *
 * Returns:   one.
 * Ownership: the caller's.
 * Threads:   any.
 * Cost:      none.
 * Errors:    NULL.
 * Since:     0.1
 */
WEIR_API WEIR_NODISCARD void *weir_x_get(
    struct weir_x *x, void (*hook)(int, void *)) WEIR_NOEXCEPT;

/**
 * weir_x_put() - put it back.
 * @x: where to.
 *
 * Ownership: taken.
 * Threads:   any.
 * Cost:      none.
 * Errors:    none.
 * Since:     0.1
 */
WEIR_API void weir_x_put(struct weir_x *x) WEIR_NOEXCEPT;
END
	cat >"$tree/examples/quickstart.c" <<'END'
int x;
/* [readme] */
int y;
/* [/readme] */
END
	cat >"$tree/README.md" <<'END'
<!-- code: examples/quickstart.c -->
```c
int y;
```
END
	# shellcheck disable=SC2016
	printf '#!/usr/bin/env bash\necho "$1"\n' >"$tree/script/run"
}

lint() { "$project/script/lint" --root "$tree" "$@" 2>&1; }

# finds CHECK PATTERN: the check fails and a line of its output matches.
finds() {
	local output status=0
	cases=$((cases + 1))
	output=$(lint "$1") || status=$?
	((status == 1)) || fail "$1 ended with $status, wanted '$2': $output"
	grep -qE -- "$2" <<<"$output" || fail "$1 lacks '$2': $output"
	clean
}

passes() {
	local output
	cases=$((cases + 1))
	output=$(lint "$1") || fail "$1 fails on a clean tree: $output"
}

sub() { sed -i "$2" "$tree/$1"; }
header=include/weir/x.h

clean
for check in format layers docs readme paths; do passes $check; done

echo '#include "pages/pages.h"' >>"$tree/src/os/os.h"
finds layers '^src/os/os\.h:2: upward include: src/os must not include src/pages'
echo '#include "../pages/pages.h"' >>"$tree/src/os/os.h"
finds layers '^src/os/os\.h:2: upward include'
echo '#include <pages/pages.h>' >>"$tree/src/os/os.h"
finds layers '^src/os/os\.h:2: upward include'
echo '#include "nowhere.h"' >>"$tree/src/os/os.h"
finds layers '^src/os/os\.h:2: included file "nowhere.h" does not exist'
mkdir "$tree/src/odd" && echo 'int x;' >"$tree/src/odd/odd.c"
finds layers '^src/odd/odd\.c:1: its folder is not in the table'
printf '#if defined(X) && \\\n    defined(__linux__)\n#endif\n' \
	>>"$tree/src/pages/pages.c"
finds layers '^src/pages/pages\.c:2: __linux__ outside src/os'
echo '#include "../../src/os/os.h"' >>"$tree/$header"
finds layers '^include/weir/x\.h:[0-9]+: a public header includes'
sub docs/ARCHITECTURE.md '/<!-- layers -->/d'
finds layers '^docs/ARCHITECTURE\.md:1: no <!-- layers -->'
rm -r "$tree/src"
finds layers 'no source file lies in a folder'

for label in Returns Ownership Threads Cost Errors Since; do
	sub $header "/get one/,/\*\//{/ \* $label:/d}"
	finds docs "^$header:[0-9]+: weir_x_get\(\): label $label: is missing"
done
sub $header 's/ \* Cost: .*/ * Errors: x/; s/ \* Errors:    .*/ * Cost: x/'
finds docs "^$header:[0-9]+: weir_x_get\(\): labels are out of order"
sub $header 's/ \* Ownership: taken\./ * Returns: nothing/'
finds docs 'weir_x_put\(\): label Returns: on a function that returns nothing'
sub $header 's/ \* Cost: .*/ * Cost:/'
finds docs 'label Cost: is empty'
sub $header '/ \* @hook/d'
finds docs 'weir_x_get\(\): parameter @hook is not described'
sub $header 's/@hook:/@hock:/'
finds docs '@hock is described but is no parameter'
sub $header 's/weir_x_get() - /weir_x_take() - /'
finds docs 'comment must open with "weir_x_get\(\) - '
echo 'WEIR_API int weir_x_bare(void) WEIR_NOEXCEPT;' >>"$tree/$header"
finds docs 'weir_x_bare: no /\*\* comment right above it'
printf 'static inline int\nweir_x_fast(void)\n{\n\treturn 0;\n}\n' \
	>>"$tree/$header"
finds docs 'weir_x_fast: no /\*\* comment right above it'
rm "$tree/$header"
finds docs 'no public declaration found'

sub README.md 's/int y;/int z;/'
finds readme '^README\.md:3: differs from examples/quickstart\.c'
sub README.md 's/int y;/int y;\nint z;/'
finds readme '^README\.md:4: differs from'
sub README.md '1d'
finds readme '^README\.md:1: c code without <!-- code: FILE -->'
sub README.md 's/quickstart/slowstart/'
finds readme 'slowstart\.c, which does not exist'

echo "see $tree/notes" >"$tree/docs/X.md"
finds paths '^docs/X\.md:1: a place of one machine'
# In two pieces, or this file would be found as well.
echo "see /home""/somebody/notes" >"$tree/docs/X.md"
finds paths '^docs/X\.md:1: a place of one machine'

printf 'int x ;\n' >"$tree/src/base/bad.c"
finds format 'src/base/bad\.c:1:'

# Symbols need a library: one that has what it should not, one that lacks.
if command -v cc >/dev/null; then
	library() {
		mkdir -p "$work/build"
		cc -shared -fPIC -o "$work/build/libweir.so" -x c - <<<"$1"
	}
	export WEIR_BUILD=$work/build
	library 'void weir_x_get(void){} void weir_x_put(void){}'
	passes symbols
	library 'void weir_x_get(void){}'
	finds symbols "^$header:[0-9]+: weir_x_put is declared WEIR_API but"
	library 'void weir_x_get(void){} void weir_x_put(void){} int weiri_y;'
	finds symbols 'exports weiri_y, which no public header declares'
	unset WEIR_BUILD
fi

if command -v shellcheck >/dev/null; then
	passes shell
	# shellcheck disable=SC2016
	printf '#!/usr/bin/env bash\necho $1\n' >"$tree/script/run"
	finds shell 'script/run:2:.*SC2086'
fi

if command -v clang-tidy >/dev/null; then
	tidy_tree() {
		mkdir -p "$work/build"
		cp "$project/.clang-tidy" "$tree"
		echo "$1" >"$tree/src/base/tidy.c"
		printf '[{\n"directory": "%s",\n"command": "%s",\n"file": "%s"\n}]\n' \
			"$tree" "cc -c src/base/tidy.c" "$tree/src/base/tidy.c" \
			>"$work/build/compile_commands.json"
	}
	export WEIR_BUILD=$work/build
	tidy_tree 'int tidy(int x); int tidy(int x) { return x; }'
	passes tidy
	tidy_tree 'int tidy(int x); int tidy(int x) { return x / (x - x); }'
	finds tidy 'src/base/tidy\.c:1:.*core.DivideZero|redundant-expression'
	unset WEIR_BUILD
fi

if "$project/script/lint" nonsense >/dev/null 2>&1; then
	fail "an unknown check passes"
fi
echo "ok   $cases cases"
