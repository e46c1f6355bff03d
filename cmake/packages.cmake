# SPDX-License-Identifier: Apache-2.0
# Which package a file belongs to is said once, here and in the rooms, and is CMake's install component of that name. debian/rules and rpm_spec/ take the components
# as they are; a test fails when a file has none of them (tests/package).
#   host       xen-sev             the host's daemon, its units, the hooks and what is loaded under Xen. Never links libcurl
#   devel      libxen-sev-dev      the hooks' header, for other toolstacks (an rpm calls it xen-sev-devel)
#   relay      xen-sev-relay       carries an exchange to an owner, and fetches AMD's certificates: the only one with libcurl
#   owner      xen-sev-owner       the guest owner's service
#   tools      xen-sev-tools       sevctl and sev-emulator, documents and schemas: needed by host and owner
#   machine    xen-sev-machine     the virtual SEV machine: scripts and patches, from which sev-emulator machine builds one
#   qubes-dom0 xen-sev-qubes-dom0  the extension of qubesd, its policy, and qvm-sev. An rpm only: Qubes' dom0 is Fedora
#   qubes-vm   xen-sev-qubes       the qrexec service of relay and vault qubes
set(SEV_PACKAGES host devel relay owner tools machine qubes-dom0 qubes-vm)

# sev_package(COMPONENT): what this folder and those below it install from now on goes there.
macro(sev_package component)
    if(NOT "${component}" IN_LIST SEV_PACKAGES)
        message(FATAL_ERROR "sev_package(${component}): want one of ${SEV_PACKAGES}")
    endif()
    set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME ${component})
endmacro()
