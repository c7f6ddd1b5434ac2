# SPDX-License-Identifier: MIT
#
# cmake --install: headers, both libraries, the tool, and what finds them.

include(CMakePackageConfigHelpers)

install(TARGETS weir weir_static EXPORT weirTargets
	LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
	ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/weir DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
	FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
if(TARGET weir_tool)
	install(TARGETS weir_tool DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
foreach(document README.md LICENSE CHANGELOG.md)
	if(EXISTS ${PROJECT_SOURCE_DIR}/${document})
		install(FILES ${document} DESTINATION ${CMAKE_INSTALL_DOCDIR})
	endif()
endforeach()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/weir)
install(EXPORT weirTargets NAMESPACE weir:: DESTINATION ${package_dir})
configure_package_config_file(cmake/weirConfig.cmake.in
	${PROJECT_BINARY_DIR}/package/weirConfig.cmake
	INSTALL_DESTINATION ${package_dir})
# Before 1.0 each minor version may differ from the last.
write_basic_package_version_file(
	${PROJECT_BINARY_DIR}/package/weirConfigVersion.cmake
	COMPATIBILITY SameMinorVersion)
install(FILES
	${PROJECT_BINARY_DIR}/package/weirConfig.cmake
	${PROJECT_BINARY_DIR}/package/weirConfigVersion.cmake
	DESTINATION ${package_dir})

# Directories relative to the .pc file, so that a tree moved after the install
# (a staging directory, a package) is still found; absolute ones stay as given.
foreach(kind LIBDIR INCLUDEDIR)
	if(IS_ABSOLUTE "${CMAKE_INSTALL_${kind}}")
		set(pc_${kind} "${CMAKE_INSTALL_${kind}}")
	else()
		set(pc_${kind} "\${prefix}/${CMAKE_INSTALL_${kind}}")
	endif()
endforeach()
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
	set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()
	cmake_path(SET up NORMALIZE "/${CMAKE_INSTALL_LIBDIR}/pkgconfig")
	string(REGEX REPLACE "/[^/]+" "/.." up "${up}")
	set(pc_prefix "\${pcfiledir}${up}")
endif()
configure_file(cmake/weir.pc.in package/weir.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/package/weir.pc
	DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
