#pragma once

#include "actors/tcp_server.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

enum class gateway_protocol { lines, http };

/// A gateway's server while its model is loaded: it listens and answers, requests with `loading`, so that load
/// balancers and clients see a server that starts and not one that is gone. Its connections live on when it begins to
/// serve. No actors. One thread at a time.
class early_server {
public:
    /// Errors: those of tcp_server::start.
    static result<std::shared_ptr<early_server>> start(gateway_protocol protocol, std::string_view address,
                                                       const tcp_limits& limits, std::vector<std::string> keys);

    ~early_server();
    early_server(const early_server&) = delete;
    early_server& operator=(const early_server&) = delete;

    gateway_protocol protocol() const noexcept;

    /// The bound address, "127.0.0.1:7420".
    const std::string& address() const noexcept;

    /// The model is there. When this returns, every request that the server reads goes to `port`, which outlives it;
    /// the server is the caller's. Call once.
    std::unique_ptr<tcp_server> serve(request_port& port, runtime_identity identity);

private:
    struct impl;
    explicit early_server(std::unique_ptr<impl> parts);
    std::unique_ptr<impl> impl_;
};

} // namespace moira
