# SPDX-License-Identifier: MIT
#
# What the build can do without is looked for once and told in one table, so
# that nothing is left out unseen.

set(weir_optional_rows "")

# One row: NAME is what was looked for, FOUND its path or empty, PACKAGE what to
# install on Debian, PURPOSE what depends on it.
macro(weir_optional NAME FOUND PACKAGE PURPOSE)
	if(NOT "${FOUND}" STREQUAL "" AND NOT "${FOUND}" MATCHES "NOTFOUND$")
		list(APPEND weir_optional_rows "${NAME}|${PURPOSE}|found")
	else()
		list(APPEND weir_optional_rows
			"${NAME}|${PURPOSE}|missing: install ${PACKAGE}")
	endif()
endmacro()

# A row for a part that this configuration leaves out on purpose.
macro(weir_optional_off NAME PURPOSE WHY)
	list(APPEND weir_optional_rows "${NAME}|${PURPOSE}|off: ${WHY}")
endmacro()

macro(weir_optional_program NAME PURPOSE)
	string(MAKE_C_IDENTIFIER "WEIR_PROGRAM_${NAME}" variable)
	find_program(${variable} NAMES ${NAME})
	mark_as_advanced(${variable})
	if(${ARGC} GREATER 2)
		weir_optional("${NAME}" "${${variable}}" "${ARGV2}" "${PURPOSE}")
	else()
		weir_optional("${NAME}" "${${variable}}" "${NAME}" "${PURPOSE}")
	endif()
endmacro()

function(weir_pad OUT TEXT WIDTH)
	string(LENGTH "${TEXT}" length)
	if(length LESS WIDTH)
		math(EXPR missing "${WIDTH} - ${length}")
		string(REPEAT " " ${missing} spaces)
		string(APPEND TEXT "${spaces}")
	endif()
	set(${OUT} "${TEXT}" PARENT_SCOPE)
endfunction()

function(weir_report)
	message(STATUS "weir ${PROJECT_VERSION} '${WEIR_CONFIG_NAME}': "
		"${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}, "
		"os ${WEIR_OS}, debug ${WEIR_DEBUG}, "
		"sanitize '${WEIR_SANITIZE}'")
	message(STATUS "optional part   used for                        state")
	foreach(row IN LISTS weir_optional_rows)
		string(REPLACE "|" ";" cells "${row}")
		list(GET cells 0 name)
		list(GET cells 1 purpose)
		list(GET cells 2 state)
		weir_pad(name "${name}" 15)
		weir_pad(purpose "${purpose}" 31)
		message(STATUS "${name} ${purpose} ${state}")
	endforeach()
endfunction()
