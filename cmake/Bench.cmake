# SPDX-License-Identifier: MIT
#
# The workers of `weir bench`: one small program per opponent, bench/weir-bench-X
# in the build directory.  All are compiled with the same options; what a
# machine lacks is told here, and again by the benchmark.

include(CheckIncludeFile)

# Runtime libraries are enough for the malloc replacements: their functions have
# the C library's prototypes.
find_library(MIMALLOC_LIBRARY NAMES libmimalloc.so.2 mimalloc)
find_library(JEMALLOC_LIBRARY NAMES libjemalloc.so.2 jemalloc)
find_library(TCMALLOC_LIBRARY NAMES libtcmalloc_minimal.so.4 tcmalloc_minimal)
find_library(TBBMALLOC_LIBRARY NAMES libtbbmalloc.so.2 tbbmalloc)
find_library(GLIB_LIBRARY NAMES libglib-2.0.so.0 glib-2.0)
find_library(CK_LIBRARY NAMES ck)
find_path(CK_INCLUDE_DIR ck_stack.h)
find_path(BOOST_INCLUDE_DIR boost/pool/pool.hpp)
find_path(VALGRIND_INCLUDE_DIR valgrind/valgrind.h)
mark_as_advanced(MIMALLOC_LIBRARY JEMALLOC_LIBRARY TCMALLOC_LIBRARY
	TBBMALLOC_LIBRARY GLIB_LIBRARY CK_LIBRARY CK_INCLUDE_DIR BOOST_INCLUDE_DIR
	VALGRIND_INCLUDE_DIR)
if(PKG_CONFIG_FOUND)
	pkg_check_modules(APR QUIET IMPORTED_TARGET apr-1)
	pkg_check_modules(TALLOC QUIET IMPORTED_TARGET talloc)
	pkg_check_modules(DPDK QUIET libdpdk)
endif()

# Never part of this tree: whoever has nginx's source says where.
set(WEIR_NGINX_SOURCE "$ENV{WEIR_NGINX_SOURCE}" CACHE PATH
	"unpacked source of nginx, whose pools play in weir bench region")
set(nginx_palloc "")
if(WEIR_NGINX_SOURCE AND EXISTS "${WEIR_NGINX_SOURCE}/src/core/ngx_palloc.c")
	set(nginx_palloc "${WEIR_NGINX_SOURCE}/src/core/ngx_palloc.c")
endif()

set(use "opponent of weir bench")
weir_optional("mimalloc" "${MIMALLOC_LIBRARY}" libmimalloc2.0 "${use}")
weir_optional("jemalloc" "${JEMALLOC_LIBRARY}" libjemalloc2 "${use}")
weir_optional("tcmalloc" "${TCMALLOC_LIBRARY}" libtcmalloc-minimal4 "${use}")
weir_optional("tbb" "${TBBMALLOC_LIBRARY}" libtbbmalloc2 "${use}")
weir_optional("rte" "${DPDK_LIBRARIES}" libdpdk-dev "${use}")
weir_optional("apr" "${APR_LIBRARIES}" libapr1-dev "${use}")
weir_optional("talloc" "${TALLOC_LIBRARIES}" libtalloc-dev "${use}")
weir_optional("glib" "${GLIB_LIBRARY}" libglib2.0-0 "${use}")
weir_optional("nginx" "${nginx_palloc}"
	"its source, WEIR_NGINX_SOURCE=DIR" "${use}")
weir_optional("ck" "${CK_INCLUDE_DIR}" libck-dev "${use}")
weir_optional("boost" "${BOOST_INCLUDE_DIR}" libboost-dev "${use}")

if(NOT WEIR_CONTENDERS OR WEIR_SANITIZE)
	weir_optional_off("opponents" "weir bench" "not the release preset")
	return()
endif()

set(object ${PROJECT_SOURCE_DIR}/bench/object)
set(region ${PROJECT_SOURCE_DIR}/bench/region)

# The loops are timed: the build type's optimisation, no frame pointers, nothing
# the compiler knows about malloc.
function(weir_bench_worker PEER SOURCE)
	cmake_path(ABSOLUTE_PATH SOURCE BASE_DIRECTORY ${object})
	add_executable(weir-bench-${PEER} ${SOURCE})
	target_compile_options(weir-bench-${PEER} PRIVATE
		-fno-builtin-malloc -fno-builtin-free -fomit-frame-pointer)
	target_compile_definitions(weir-bench-${PEER} PRIVATE
		BENCH_PEER="${PEER}")
	target_include_directories(weir-bench-${PEER} PRIVATE
		${PROJECT_SOURCE_DIR}/include)
	target_link_libraries(weir-bench-${PEER} PRIVATE
		weir_warnings Threads::Threads ${CMAKE_DL_LIBS} ${ARGN})
	set_target_properties(weir-bench-${PEER} PROPERTIES
		RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
endfunction()

function(weir_bench_define PEER)
	target_compile_definitions(weir-bench-${PEER} PRIVATE ${ARGN})
endfunction()

# "libjemalloc.so.2" of the file a library's name leads to is no version; the
# number behind it mostly is, and the package's says it exactly.
function(weir_bench_version PEER LIBRARY)
	file(REAL_PATH "${LIBRARY}" real)
	cmake_path(GET real FILENAME version)
	find_program(WEIR_DPKG_QUERY dpkg-query)
	mark_as_advanced(WEIR_DPKG_QUERY)
	if(WEIR_DPKG_QUERY)
		execute_process(COMMAND ${WEIR_DPKG_QUERY} -S ${real}
			OUTPUT_VARIABLE owner ERROR_QUIET
			OUTPUT_STRIP_TRAILING_WHITESPACE)
		string(REGEX REPLACE ":.*" "" owner "${owner}")
		if(owner)
			execute_process(COMMAND ${WEIR_DPKG_QUERY} -W
				-f "\${Version}" ${owner}
				OUTPUT_VARIABLE package ERROR_QUIET)
			string(APPEND version " (Debian ${package})")
		endif()
	endif()
	weir_bench_define(${PEER} "BENCH_VERSION=\"${version}\"")
endfunction()

weir_bench_worker(harness peer_harness.c)
weir_bench_worker(calls peer_calls.c)

weir_bench_worker(glibc peer_malloc.c)
weir_bench_define(glibc BENCH_GLIBC BENCH_LIBRARY="libc.so")
# The benchmark's test of itself: free, delayed.
weir_bench_worker(slow peer_malloc.c)
weir_bench_define(slow BENCH_GLIBC BENCH_SLOW BENCH_LIBRARY="libc.so")

foreach(name mimalloc jemalloc tcmalloc)
	string(TOUPPER ${name} upper)
	if(${upper}_LIBRARY)
		weir_bench_worker(${name} peer_malloc.c ${${upper}_LIBRARY})
		weir_bench_define(${name} BENCH_LIBRARY="lib${name}")
		weir_bench_version(${name} ${${upper}_LIBRARY})
		# First in the search for symbols, used or not.
		target_link_options(weir-bench-${name} PRIVATE
			LINKER:--no-as-needed)
	endif()
endforeach()

if(TBBMALLOC_LIBRARY)
	weir_bench_worker(tbb peer_tbb.c ${TBBMALLOC_LIBRARY})
	weir_bench_version(tbb ${TBBMALLOC_LIBRARY})
endif()
if(CK_INCLUDE_DIR AND CK_LIBRARY)
	weir_bench_worker(ck peer_ck.c)
	target_include_directories(weir-bench-ck SYSTEM PRIVATE
		${CK_INCLUDE_DIR})
	weir_bench_version(ck ${CK_LIBRARY})
endif()
if(TALLOC_LIBRARIES)
	weir_bench_worker(talloc peer_talloc.c PkgConfig::TALLOC)
	weir_bench_worker(talloc-pool peer_talloc.c PkgConfig::TALLOC)
	weir_bench_define(talloc-pool BENCH_TALLOC_POOL)
endif()
if(APR_LIBRARIES)
	weir_bench_worker(apr peer_apr.c PkgConfig::APR)
endif()
if(DPDK_LIBRARIES)
	# DPDK's headers insist on a processor of their own choice; the warnings
	# in them are not ours.
	weir_bench_worker(rte peer_rte.c rte_eal rte_mempool rte_mempool_ring
		rte_ring)
	set(dpdk_options ${DPDK_CFLAGS_OTHER})
	target_compile_options(weir-bench-rte PRIVATE
		"SHELL:${dpdk_options}")
	target_include_directories(weir-bench-rte SYSTEM PRIVATE
		${DPDK_INCLUDE_DIRS})
	target_link_options(weir-bench-rte PRIVATE LINKER:--no-as-needed)
endif()
if(BOOST_INCLUDE_DIR AND CMAKE_CXX_COMPILER)
	foreach(name boost boost-lockfree)
		string(REPLACE "-" "_" file ${name})
		weir_bench_worker(${name} peer_${file}.cpp)
		target_include_directories(weir-bench-${name} SYSTEM PRIVATE
			${BOOST_INCLUDE_DIR})
	endforeach()
endif()

set(designs mutex lockfree firstfit bestfit)
add_library(weir_bench_textbook STATIC
	${object}/textbook_pool.c ${object}/textbook_heap.c)
target_compile_options(weir_bench_textbook PRIVATE -fomit-frame-pointer)
target_compile_definitions(weir_bench_textbook PRIVATE _GNU_SOURCE=)
target_link_libraries(weir_bench_textbook PRIVATE weir_warnings)
set(number 0)
foreach(name IN LISTS designs)
	math(EXPR number "${number} + 1")
	weir_bench_worker(${name} peer_textbook.c weir_bench_textbook)
	weir_bench_define(${name} BENCH_DESIGN=${number})
endforeach()

weir_bench_worker(weir peer_weir.c weir)
weir_bench_define(weir BENCH_CHECK=WEIR_CHECK_EACH BENCH_INLINED=0)
weir_bench_worker(weir-batch peer_weir.c weir)
weir_bench_define(weir-batch BENCH_CHECK=WEIR_CHECK_BATCH BENCH_INLINED=0)
weir_bench_worker(weir-inline peer_weir.c weir)
weir_bench_define(weir-inline BENCH_CHECK=WEIR_CHECK_EACH BENCH_INLINED=1)
weir_bench_worker(batch-inline peer_weir.c weir)
weir_bench_define(batch-inline BENCH_CHECK=WEIR_CHECK_BATCH BENCH_INLINED=1)
weir_bench_worker(weir-heap peer_weir_heap.c weir)
weir_bench_worker(weir-bounded peer_weir_bounded.c weir)

# ---- regions -------------------------------------------------------------

check_include_file(obstack.h WEIR_HAVE_OBSTACK)
if(WEIR_HAVE_OBSTACK)
	weir_bench_worker(obstack ${region}/peer_obstack.c)
endif()
if(GLIB_LIBRARY)
	weir_bench_worker(glib ${region}/peer_glib.c ${GLIB_LIBRARY})
	weir_bench_version(glib ${GLIB_LIBRARY})
endif()
weir_bench_worker(weir-region ${region}/peer_weir_region.c weir)
weir_bench_define(weir-region BENCH_NAMED=1 BENCH_LIMITED=0)
weir_bench_worker(weir-limited ${region}/peer_weir_region.c weir)
weir_bench_define(weir-limited BENCH_NAMED=1 BENCH_LIMITED=1)
weir_bench_worker(weir-plain ${region}/peer_weir_region.c weir)
weir_bench_define(weir-plain BENCH_NAMED=0 BENCH_LIMITED=0)

# nginx is configured in a copy, with nothing that needs a library; of what that
# makes, only the headers are used.  Its pools are compiled as ours are.
if(nginx_palloc)
	set(nginx ${PROJECT_BINARY_DIR}/bench/nginx)
	set(nginx_files ${nginx}/src/core/ngx_palloc.c
		${nginx}/src/os/unix/ngx_alloc.c)
	add_custom_command(OUTPUT ${nginx}/objs/ngx_auto_config.h ${nginx_files}
		COMMAND ${CMAKE_COMMAND} -E rm -rf ${nginx}
		COMMAND ${CMAKE_COMMAND} -E copy_directory
			${WEIR_NGINX_SOURCE} ${nginx}
		COMMAND sh -c "cd '${nginx}' && ./configure \
			--with-cc='${CMAKE_C_COMPILER}' --without-pcre \
			--without-http_rewrite_module \
			--without-http_gzip_module >configure.log"
		DEPENDS ${nginx_palloc} VERBATIM
		COMMENT "Configuring nginx, whose pools are an opponent")
	set_source_files_properties(${nginx_files} PROPERTIES
		COMPILE_OPTIONS "-w")
	# One target runs the command for both workers.
	add_custom_target(weir_bench_nginx_source
		DEPENDS ${nginx}/objs/ngx_auto_config.h ${nginx_files})
	foreach(name nginx nginx-4k)
		weir_bench_worker(${name} ${region}/peer_nginx.c)
		target_sources(weir-bench-${name} PRIVATE ${nginx_files})
		add_dependencies(weir-bench-${name} weir_bench_nginx_source)
		foreach(part objs src/core src/event src/event/modules
			src/os/unix)
			target_include_directories(weir-bench-${name} SYSTEM
				PRIVATE ${nginx}/${part})
		endforeach()
	endforeach()
	weir_bench_define(nginx BENCH_POOL_BYTES=16384)
	weir_bench_define(nginx-4k BENCH_POOL_BYTES=4096)
endif()
