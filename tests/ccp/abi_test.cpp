// SPDX-License-Identifier: Apache-2.0
// psp/dev_sev.hpp against the kernel's own header, where that is installed (Debian: linux-libc-dev), and against known bytes everywhere.
#include <cstddef>

#include "psp/dev_sev.hpp"
#include "psp/status.hpp"
#include "tests/support.hpp"

#if __has_include(<linux/psp-sev.h>)
#include <linux/psp-sev.h>
#include <sys/ioctl.h>
#endif

using namespace sev;
using namespace sev::psp;

#if __has_include(<linux/psp-sev.h>)
static_assert(dev_sev::issue_command == SEV_ISSUE_CMD);
static_assert(dev_sev::no_firmware_call == 0xFFFF'FFFF); // SEV_RET_NO_FW_CALL, -1, in newer headers
static_assert(static_cast<int>(dev_sev::Command::factory_reset) == SEV_FACTORY_RESET);
static_assert(static_cast<int>(dev_sev::Command::platform_status) == SEV_PLATFORM_STATUS);
static_assert(static_cast<int>(dev_sev::Command::pek_gen) == SEV_PEK_GEN);
static_assert(static_cast<int>(dev_sev::Command::pek_csr) == SEV_PEK_CSR);
static_assert(static_cast<int>(dev_sev::Command::pdh_gen) == SEV_PDH_GEN);
static_assert(static_cast<int>(dev_sev::Command::pdh_cert_export) == SEV_PDH_CERT_EXPORT);
static_assert(static_cast<int>(dev_sev::Command::pek_cert_import) == SEV_PEK_CERT_IMPORT);
static_assert(static_cast<int>(dev_sev::Command::get_id) == SEV_GET_ID);
static_assert(static_cast<int>(dev_sev::Command::get_id2) == SEV_GET_ID2);
static_assert(sizeof(sev_issue_cmd) == dev_sev::IssueCommand::wire_size);
static_assert(offsetof(sev_issue_cmd, data) == 0x04 && offsetof(sev_issue_cmd, error) == 0x0C);
static_assert(sizeof(sev_user_data_status) == dev_sev::status_size);
static_assert(offsetof(sev_user_data_status, flags) == 3 && offsetof(sev_user_data_status, build) == 7 &&
              offsetof(sev_user_data_status, guest_count) == 8);
static_assert(sizeof(sev_user_data_pek_csr) == dev_sev::Buffer::wire_size && offsetof(sev_user_data_pek_csr, length) == 8);
static_assert(sizeof(sev_user_data_get_id2) == dev_sev::Buffer::wire_size && offsetof(sev_user_data_get_id2, length) == 8);
static_assert(sizeof(sev_user_data_get_id) == dev_sev::get_id_size);
static_assert(sizeof(sev_user_data_pdh_cert_export) == dev_sev::BufferPair::wire_size);
static_assert(offsetof(sev_user_data_pdh_cert_export, pdh_cert_len) == 0x08 && offsetof(sev_user_data_pdh_cert_export, cert_chain_address) == 0x0C &&
              offsetof(sev_user_data_pdh_cert_export, cert_chain_len) == 0x14);
static_assert(sizeof(sev_user_data_pek_cert_import) == dev_sev::BufferPair::wire_size);
static_assert(offsetof(sev_user_data_pek_cert_import, pek_cert_len) == 0x08 && offsetof(sev_user_data_pek_cert_import, oca_cert_address) == 0x0C &&
              offsetof(sev_user_data_pek_cert_import, oca_cert_len) == 0x14);
static_assert(static_cast<int>(Status::secure_data_invalid) == SEV_RET_SECURE_DATA_INVALID &&
              static_cast<int>(Status::bad_measurement) == SEV_RET_BAD_MEASUREMENT &&
              static_cast<int>(Status::already_owned) == SEV_RET_ALREADY_OWNED && static_cast<int>(Status::invalid_length) == SEV_RET_INVALID_LEN);
#else
TEST_CASE("/dev/sev ABI: the kernel's header") {
    MESSAGE("SKIPPED: <linux/psp-sev.h> is not installed, the layouts were held against known bytes alone");
}
#endif

TEST_CASE("/dev/sev ABI: known bytes, made with Python's struct '<IQI', '<QI' and '<QIQI'") {
    const dev_sev::IssueCommand issue{.command = dev_sev::Command::pdh_cert_export, .data = 0x0102030405060708, .error = 0x11223344};
    CHECK(hex(issue.serialize()) == "05000000" "0807060504030201" "44332211");
    CHECK(dev_sev::IssueCommand::parse(wire::view(issue.serialize())) == issue);
    const dev_sev::BufferPair pair{.first = {0xA1, 2084}, .second = {0xB2, 6252}};
    CHECK(hex(pair.serialize()) == "a100000000000000" "24080000" "b200000000000000" "6c180000");
    CHECK(dev_sev::BufferPair::parse(wire::view(pair.serialize())) == pair);
    CHECK(dev_sev::name(dev_sev::Command::get_id2) == "GET_ID2");
    CHECK(dev_sev::name(dev_sev::Command{9}) == "command 9");
}
