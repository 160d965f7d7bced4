# What a host program uses: one shared library that shows nothing but the functions of actors/moira/*.hpp and needs, to
# be linked, nothing but CAF.
file(RELATIVE_PATH MOIRA_LIBRARY_TO_PLUGINS ${CMAKE_INSTALL_FULL_LIBDIR} ${CMAKE_INSTALL_PREFIX}/lib/moira/plugins)
file(RELATIVE_PATH MOIRA_LIBRARY_TO_MODELS ${CMAKE_INSTALL_FULL_LIBDIR} ${CMAKE_INSTALL_FULL_DATADIR}/moira/models)

add_library(moira_embedding OBJECT library_folder.cpp spawn_runtime.cpp)
add_library(moira_remote OBJECT remote_runtime.cpp)
target_link_libraries(moira_embedding PUBLIC moira_runtime_parts PRIVATE CAF::core)
target_link_libraries(moira_remote PUBLIC moira_base PRIVATE CAF::io)
target_precompile_headers(moira_embedding REUSE_FROM moira_actors)
target_compile_definitions(moira_embedding PRIVATE MOIRA_SOURCE_MODELS="${PROJECT_SOURCE_DIR}/config/models"
  MOIRA_LIBRARY_TO_PLUGINS="${MOIRA_LIBRARY_TO_PLUGINS}" MOIRA_LIBRARY_TO_MODELS="${MOIRA_LIBRARY_TO_MODELS}")

add_library(moira_runtime SHARED $<TARGET_OBJECTS:moira_embedding> $<TARGET_OBJECTS:moira_remote>)
target_link_libraries(moira_runtime PRIVATE moira_actors CAF::io PUBLIC CAF::core)
target_include_directories(moira_runtime INTERFACE
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(moira_runtime INTERFACE cxx_std_17)
target_link_options(moira_runtime PRIVATE -Wl,--exclude-libs,ALL -Wl,--no-undefined)
set_target_properties(moira_runtime PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} EXPORT_NAME runtime
  INSTALL_RPATH "$ORIGIN")

# `find_package(moira)`
include(CMakePackageConfigHelpers)
set(MOIRA_CMAKE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/moira)
install(TARGETS moira_runtime EXPORT moiraTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT moiraTargets NAMESPACE moira:: DESTINATION ${MOIRA_CMAKE_FOLDER})
install(DIRECTORY moira DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
configure_package_config_file(${PROJECT_SOURCE_DIR}/tools/cmake/moiraConfig.cmake.in
  ${CMAKE_BINARY_DIR}/generated/moiraConfig.cmake INSTALL_DESTINATION ${MOIRA_CMAKE_FOLDER})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/generated/moiraConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/generated/moiraConfig.cmake ${CMAKE_BINARY_DIR}/generated/moiraConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/tools/cmake/FindCAF.cmake DESTINATION ${MOIRA_CMAKE_FOLDER})
