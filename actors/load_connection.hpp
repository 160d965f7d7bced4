#pragma once

#include "actors/load_client.hpp"

#include <asio/ip/tcp.hpp>
#include <memory>
#include <string>
#include <vector>

namespace moira {

/// One client of a load generator: a connection that is opened when something is to be sent and kept while it can be.
class load_connection : public std::enable_shared_from_this<load_connection> {
public:
    using clock = std::chrono::steady_clock;
    using endpoints = std::vector<asio::ip::tcp::endpoint>;
    using news_function = std::function<void(std::size_t index, const reply_news& news, clock::time_point when)>;

    load_connection(asio::io_context& io, std::size_t index, const load_options& options, const endpoints& peers,
                    news_function on_news);

    /// One request at a time; its news come through `on_news`, the last one ended.
    void send(const load_request& request);
    void ask_facts();
    void ask_statistics();

    /// Ends an open request that has waited too long.
    void sweep(clock::time_point now);

    /// Closes without a word to anybody.
    void cut();

private:
    void transmit(const std::function<std::string()>& question);
    void connect();
    void write();
    void read();
    void received(const asio::error_code& failure, std::size_t bytes);
    void report(const reply_news& news);
    void fail_with(const std::string& reason);

    asio::ip::tcp::socket socket_;
    std::size_t index_;
    const load_options& options_;
    const endpoints& peers_;
    news_function on_news_;
    std::unique_ptr<load_protocol> protocol_;
    std::string output_;
    std::vector<char> input_;
    bool connected_ = false, connecting_ = false, writing_ = false, open_ = false;
    std::uint64_t life_ = 0; ///< counts sockets, so that news of an old one are known as such
    clock::time_point heard_;
};

} // namespace moira
