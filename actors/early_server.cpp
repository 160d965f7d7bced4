#include "actors/early_server.hpp"

#include "actors/http_session.hpp"
#include "actors/line_protocol.hpp"

#include <utility>

namespace moira {

namespace {

/// Behind it is nothing yet: sessions that load ask it for nothing.
class no_runtime final : public request_port {
public:
    void submit(std::uint64_t, std::shared_ptr<const generation_input>) override {}
    void cancel(std::uint64_t) override {}
    void request_statistics(std::uint64_t) override {}
    void inject_fault(const std::string&) override {}
    void request_text(std::uint64_t, text_question) override {}
    expert_store_statistics expert_statistics() const override { return {}; }
};

} // namespace

struct early_server::impl {
    gateway_protocol protocol = gateway_protocol::lines;
    std::string address;
    no_runtime nothing; // outlives the server
    std::shared_ptr<session_site> site;
    std::unique_ptr<tcp_server> server;
};

early_server::early_server(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}
early_server::~early_server() = default;

result<std::shared_ptr<early_server>> early_server::start(gateway_protocol protocol, std::string_view address,
                                                          const tcp_limits& limits, std::vector<std::string> keys) {
    auto parts = std::make_unique<impl>();
    parts->protocol = protocol;
    session_factory sessions;
    if (protocol == gateway_protocol::http) {
        auto site = make_http_site(std::move(keys), {});
        parts->site = site;
        sessions = http_sessions(std::move(site));
    } else {
        parts->site = std::make_shared<session_site>(session_site{std::move(keys), {}});
        sessions = line_sessions(parts->site);
    }
    parts->site->loading = true;
    auto server = tcp_server::start(address, limits, std::move(sessions), parts->nothing);
    if (!server)
        return tl::unexpected<error>(std::move(server.error()));
    parts->address = (*server)->address();
    parts->server = std::move(*server);
    return std::shared_ptr<early_server>(new early_server(std::move(parts)));
}

gateway_protocol early_server::protocol() const noexcept {
    return impl_->protocol;
}
const std::string& early_server::address() const noexcept {
    return impl_->address;
}

std::unique_ptr<tcp_server> early_server::serve(request_port& port, runtime_identity identity) {
    impl_->server->use_port(port, [site = impl_->site, identity = std::move(identity)]() mutable {
        site->identity = std::move(identity);
        site->loading = false;
    });
    return std::move(impl_->server);
}

} // namespace moira
