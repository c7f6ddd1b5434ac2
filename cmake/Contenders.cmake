# SPDX-License-Identifier: MIT
#
# The servers weir is measured against, and the preloaded counter of system
# allocations.  Each needs a library that weir itself does not.

find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
	pkg_check_modules(LIBUV QUIET IMPORTED_TARGET libuv)
endif()
find_path(ASIO_INCLUDE_DIR asio.hpp)
mark_as_advanced(ASIO_INCLUDE_DIR)

weir_optional("C++ compiler" "${CMAKE_CXX_COMPILER}" g++
	"header tests, Asio contender")
weir_optional("pkg-config" "${PKG_CONFIG_EXECUTABLE}" pkg-config
	"finding libuv, package test")
weir_optional("libuv" "${LIBUV_LIBRARIES}" libuv1-dev "contender of weir demo")
weir_optional("asio" "${ASIO_INCLUDE_DIR}" libasio-dev "contender of weir demo")

if(NOT WEIR_CONTENDERS)
	weir_optional_off("contenders" "weir demo" "WEIR_CONTENDERS is OFF")
	return()
endif()

set(contenders ${PROJECT_SOURCE_DIR}/bench/contenders)
set(counter ${PROJECT_SOURCE_DIR}/bench/count/count.c)

if(LIBUV_LIBRARIES AND EXISTS ${contenders}/echo_libuv.c)
	add_executable(weir-echo-libuv ${contenders}/echo_libuv.c)
	target_link_libraries(weir-echo-libuv PRIVATE
		weir_program PkgConfig::LIBUV)
	set_target_properties(weir-echo-libuv PROPERTIES
		RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
endif()

if(ASIO_INCLUDE_DIR AND CMAKE_CXX_COMPILER AND
	EXISTS ${contenders}/echo_asio.cpp)
	add_executable(weir-echo-asio ${contenders}/echo_asio.cpp)
	target_include_directories(weir-echo-asio SYSTEM PRIVATE
		${ASIO_INCLUDE_DIR})
	target_link_libraries(weir-echo-asio PRIVATE weir_program)
	set_target_properties(weir-echo-asio PROPERTIES
		RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
endif()

# These need nothing but the system.
set(bare epoll)
if(weir_io_uring)
	list(APPEND bare uring)
endif()
foreach(name IN LISTS bare)
	if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND
		EXISTS ${contenders}/echo_${name}.c)
		add_executable(weir-echo-${name} ${contenders}/echo_${name}.c)
		target_link_libraries(weir-echo-${name} PRIVATE weir_program)
		set_target_properties(weir-echo-${name} PROPERTIES
			RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
	endif()
endforeach()

if(WEIR_SANITIZE)
	weir_optional_off("weir-count.so" "counting allocations"
		"a sanitizer brings its own malloc")
elseif(EXISTS ${counter})
	add_library(weir-count MODULE ${counter})
	# The compiler must not turn malloc and memset into the calloc that is
	# being defined here.
	target_compile_options(weir-count PRIVATE -fno-builtin)
	target_link_libraries(weir-count PRIVATE weir_internal
		Threads::Threads ${CMAKE_DL_LIBS})
	set_target_properties(weir-count PROPERTIES PREFIX ""
		LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
endif()
