# SPDX-License-Identifier: MIT
#
# How weir is compiled, as four interface targets:
#
#   weir_warnings   the warning set, for every file of the tree
#   weir_link       code generation and link options of the configuration
#   weir_internal   both, and what the sources of the library expect
#   weir_program    weir_internal for programs beside the library

include(CheckCCompilerFlag)
include(CheckPIESupported)

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# The exact cost of each function is part of what weir claims: no link-time
# optimisation may merge it into its callers.
set(CMAKE_INTERPROCEDURAL_OPTIMIZATION OFF)
check_pie_supported()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(PROJECT_IS_TOP_LEVEL)
	if(NOT CMAKE_BUILD_TYPE)
		set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
	endif()
	# Symbols cost nothing at run time; profilers and valgrind want them.
	foreach(language C CXX)
		set(CMAKE_${language}_FLAGS_RELWITHDEBINFO "-O2 -g")
		set(CMAKE_${language}_FLAGS_DEBUG "-Og -g")
	endforeach()
	if(WEIR_SANITIZE)
		set(CMAKE_C_FLAGS_DEBUG "-O1 -g")
		set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g")
	endif()
endif()

# ---- warnings ------------------------------------------------------------

set(common_warnings -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wcast-align
	-Wcast-qual -Wundef -Wvla -Wwrite-strings -Wformat=2
	-Wimplicit-fallthrough)
set(c_warnings -Wstrict-prototypes -Wmissing-prototypes)
set(cxx_warnings -Wnon-virtual-dtor -Woverloaded-virtual)

add_library(weir_warnings INTERFACE)
target_compile_options(weir_warnings INTERFACE
	${common_warnings}
	"$<$<COMPILE_LANGUAGE:C>:${c_warnings}>"
	"$<$<COMPILE_LANGUAGE:CXX>:${cxx_warnings}>")
if(WEIR_WERROR)
	target_compile_options(weir_warnings INTERFACE -Werror)
endif()

# ---- code generation -----------------------------------------------------

add_library(weir_link INTERFACE)
# A profile or a fault report without frame pointers stops at the first pool.
target_compile_options(weir_link INTERFACE -fno-omit-frame-pointer)
check_c_compiler_flag(-mno-omit-leaf-frame-pointer WEIR_HAVE_LEAF_FRAMES)
if(WEIR_HAVE_LEAF_FRAMES)
	target_compile_options(weir_link INTERFACE -mno-omit-leaf-frame-pointer)
endif()

if(WEIR_SANITIZE)
	target_compile_options(weir_link INTERFACE
		-fsanitize=${WEIR_SANITIZE} -fno-sanitize-recover=all)
	target_link_options(weir_link INTERFACE -fsanitize=${WEIR_SANITIZE})
endif()

if(WEIR_HARDENED_BUILD)
	# Each is asked for only where the compiler and processor have it.
	foreach(flag -fstack-protector-strong -fstack-clash-protection
		-fcf-protection=full)
		string(MAKE_C_IDENTIFIER "WEIR_HAVE${flag}" variable)
		check_c_compiler_flag(${flag} ${variable})
		if(${variable})
			target_compile_options(weir_link INTERFACE ${flag})
		endif()
	endforeach()
	# Level 3 sees sizes known only at run time; -U because distributions
	# preset a lower level.
	target_compile_options(weir_link INTERFACE
		-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
	target_link_options(weir_link INTERFACE
		"LINKER:-z,relro" "LINKER:-z,now" "LINKER:-z,noexecstack")
endif()

# ---- the library's own sources -------------------------------------------

add_library(weir_internal INTERFACE)
target_link_libraries(weir_internal INTERFACE weir_warnings weir_link)
# _GNU_SOURCE is defined empty, as a source would write it, so that a file may
# define it once more without a conflict.  C++ compilers define it themselves.
target_compile_definitions(weir_internal INTERFACE
	WEIR_DEBUG=${WEIR_DEBUG}
	$<$<COMPILE_LANGUAGE:C>:_GNU_SOURCE=>)

add_library(weir_program INTERFACE)
target_include_directories(weir_program INTERFACE ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(weir_program INTERFACE weir_internal Threads::Threads)
