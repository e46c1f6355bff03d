// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <set>

#include <sys/stat.h>

#include "psp/ccp/ccp_firmware.hpp"
#include "psp/command.hpp"
#include "tests/support.hpp"

using namespace sev;
using namespace sev::psp;
using ccp::Access;
using ccp::CcpFirmware;
using dev_sev::Command;

TEST_CASE("/dev/sev: each errno of the kernel has a sentence and a remedy of its own, apart from the firmware's statuses") {
    std::set<std::string> sentences, remedies;
    const std::array errors{EIO, ENODEV, EPERM, EACCES, ENOENT, ENOTTY, EFAULT, EINVAL, ENOMEM, ECONNABORTED, ENOTCONN, ETIMEDOUT, EBUSY, 524};
    for (const int error_number : errors) {
        const Error error = ccp::explain("/dev/sev", Command::pdh_gen, error_number, dev_sev::no_firmware_call);
        CHECK(std::string_view{error.what()}.starts_with("/dev/sev: "));
        CHECK(error.hint().size() > 20);
        sentences.insert(error.what());
        remedies.insert(error.hint());
        for (const StatusInfo& status : all_statuses()) CHECK(error.hint() != status.remedy);
    }
    CHECK(sentences.size() == errors.size());
    CHECK(remedies.size() == errors.size());
    CHECK(ccp::explain("/dev/sev", Command::pdh_gen, ETIMEDOUT, 0).fault() == Fault::firmware);
    CHECK(ccp::explain("/dev/sev", Command::pdh_gen, EIO, dev_sev::no_firmware_call).fault() == Fault::system);
    // EBUSY of a reset is first of all about guests
    CHECK(std::string_view{ccp::explain("/dev/sev", Command::factory_reset, EBUSY, 0).what()}.find("guests are running") != std::string_view::npos);
    CHECK(std::string_view{ccp::explain("/dev/sev", Command::pek_gen, EBUSY, 0).what()}.find("given the PSP up") != std::string_view::npos);
    // one that nobody has seen
    CHECK(std::string_view{ccp::explain("/dev/sev", Command::pek_gen, EXDEV, 0).what()}.find("(errno 18)") != std::string_view::npos);
}

TEST_CASE("/dev/sev: each way of not being opened") {
    std::set<std::string> sentences, remedies;
    const std::array errors{ENOENT, ENODEV, ENXIO, EACCES, EPERM, EBUSY, EROFS, EMFILE, ENFILE, EISDIR};
    for (const int error_number : errors) {
        const Error error = ccp::explain_open("/dev/sev", Access::read_write, error_number);
        CHECK(error.fault() == Fault::system);
        sentences.insert(error.what());
        remedies.insert(error.hint());
    }
    CHECK(sentences.size() == errors.size());
    CHECK(remedies.size() == errors.size());
    CHECK(std::string_view{ccp::explain_open("x", Access::read_only, EXDEV).what()}.find("x: cannot be opened for reading: ") == 0);

    sev::test::TemporaryDirectory directory;
    CHECK_THROWS_WITH_AS(CcpFirmware{directory / "none"}, doctest::Contains("(ENOENT)"), Error);
    CHECK_THROWS_WITH_AS(CcpFirmware{directory / ""}, doctest::Contains("(EISDIR)"), Error);
    write_file(directory / "file", as_bytes("x"), Visibility::readable, Existing::refuse);
    CHECK_THROWS_WITH_AS(CcpFirmware{directory / "file"}, doctest::Contains("is no device"), Error);
    CHECK_THROWS_WITH_AS(CcpFirmware{directory / "file/x"}, doctest::Contains("(ENOTDIR)"), Error);
}

TEST_CASE("/dev/sev: another character device is told apart, and no command of a guest or of the driver goes this way") {
    CcpFirmware null{"/dev/null"};
    CHECK_THROWS_WITH_AS(run(null, GetPlatformStatus{}), doctest::Contains("PLATFORM_STATUS: /dev/null: it does not know the SEV_ISSUE_CMD request"),
                         Error);
    CHECK_THROWS_WITH_AS(run(null, Init{}), doctest::Contains("INIT does not go through this device"), Error);
    CHECK_THROWS_WITH_AS(run(null, Shutdown{}), doctest::Contains("SHUTDOWN does not go"), Error);
    CHECK_THROWS_WITH_AS(run(null, DfFlush{}), doctest::Contains("DF_FLUSH does not go"), Error);
    CHECK_THROWS_WITH_AS(run(null, LaunchStart{}), doctest::Contains("LAUNCH_START does not go"), Error);
    CHECK_THROWS_WITH_AS(run(null, Activate{}), doctest::Contains("ACTIVATE does not go"), Error);
    CHECK_THROWS_WITH_AS(run(null, GetGuestStatus{}), doctest::Contains("GUEST_STATUS does not go"), Error);
    CHECK(null.backend() == "ccp");
}
