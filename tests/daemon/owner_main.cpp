// SPDX-License-Identifier: Apache-2.0
// The test owner as a program: daemon_owner POLICY SOCKET KEYFILE [MODE [DELAY_MS]]. Writes its public key as a JWK to KEYFILE and runs until stdin
// ends.
#include <csignal>
#include <iostream>
#include <iterator>

#include <unistd.h>

#include "tests/daemon/owner.hpp"

using namespace sev;

int main(int argc, char** argv) {
    try {
        ::signal(SIGPIPE, SIG_IGN);
        if (argc < 4) throw Error{Fault::usage, "daemon_owner POLICY SOCKET KEYFILE [MODE [DELAY_MS]]"};
        test::TestOwner owner{attest::OwnerPolicy::load(argv[1])};
        const std::map<std::string_view, test::TestOwner::Mode> modes{{"honest", test::TestOwner::Mode::honest},
                                                                      {"garbage", test::TestOwner::Mode::garbage},
                                                                      {"silent", test::TestOwner::Mode::silent},
                                                                      {"trouble", test::TestOwner::Mode::trouble},
                                                                      {"same_session", test::TestOwner::Mode::same_session},
                                                                      {"huge", test::TestOwner::Mode::huge}};
        if (argc > 4) owner.set(modes.at(argv[4]), std::chrono::milliseconds{argc > 5 ? std::stoi(argv[5]) : 0});
        write_file(argv[3], as_bytes(owner.key().to_json().dump()), Visibility::readable, Existing::replace);
        service::Log log{"daemon_owner", service::Sink::standard_error, service::Priority::warning};
        service::Limits limits;
        limits.workers = 8;
        service::Server server{owner.routes(), limits, log};
        server.listen(service::UnixEndpoint{.path = argv[2], .mode = 0600, .group = std::nullopt});
        server.start();
        std::cout << "ready" << std::endl;
        char byte = 0;
        while (::read(STDIN_FILENO, &byte, 1) > 0) {}
        owner.stop();
        server.drain(std::chrono::seconds{1});
        std::cout << "sessions " << owner.sessions_made() << " judged " << owner.judged() << " released " << owner.released() << std::endl;
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "daemon_owner: " << error.what() << "\n";
        return 2;
    }
}
