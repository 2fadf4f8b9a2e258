# An overlay port, which builds the checkout that it lies in; cargo must be on the PATH:
#   vcpkg install patchmask --overlay-ports=packaging/vcpkg
# Both libraries, always built for release; find_package takes the target.
set(VCPKG_BUILD_TYPE release)
set(VCPKG_POLICY_SKIP_LIB_CMAKE_MERGE_CHECK enabled) # its paths are relative
get_filename_component(SOURCE_PATH "${CURRENT_PORT_DIR}/../../.." ABSOLUTE)

vcpkg_cmake_configure(SOURCE_PATH "${SOURCE_PATH}")
vcpkg_cmake_install()
vcpkg_fixup_pkgconfig()

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/doc")
vcpkg_install_copyright(FILE_LIST
  "${SOURCE_PATH}/LICENSE-MIT" "${SOURCE_PATH}/LICENSE-APACHE" "${SOURCE_PATH}/THIRD-PARTY-NOTICES.txt")
file(WRITE "${CURRENT_PACKAGES_DIR}/share/${PORT}/usage" "\
find_package(patchmask CONFIG REQUIRED)
target_link_libraries(main PRIVATE patchmask::patchmask) # shared, or patchmask::static
")
