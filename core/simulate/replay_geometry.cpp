#include "core/simulate/replay_geometry.hpp"

#include "core/base/json_depth.hpp"
#include "core/base/read_only_file.hpp"

#include <nlohmann/json.hpp>
#include <string>

namespace moira {
namespace {

using json = nlohmann::json;

/// A few numbers for each of at most 4,096 layers.
constexpr std::uint64_t geometry_bytes_max = 1 << 20;
constexpr std::size_t geometry_depth_max = 16;

/// Nothing weighs or takes more: 2^53 bytes, so that doubles hold it exactly; 10^6 GB/s; a day.
constexpr double bytes_max = 0x1p53, gb_s_max = 1e6, seconds_max = 86400;

class geometry_reader {
public:
    geometry_reader(const json& root, const route_trace& trace, std::string_view name)
        : root_(root), trace_(trace), name_(name) {}

    result<replay_geometry> read() {
        replay_geometry made;
        double head_bytes = 0;
        auto done = read_layers("expert_bytes", 1, made.expert_bytes);
        if (done)
            done = read_layers("dense_bytes", 0, made.dense_bytes);
        if (done)
            done = read_number("head_bytes", 0, bytes_max, head_bytes);
        if (done)
            done = read_number("memory_gb_s", 1e-6, gb_s_max, made.memory_gb_s);
        if (done)
            done = read_number("disk_gb_s", 1e-6, gb_s_max, made.disk_gb_s);
        if (done)
            done = read_number("layer_s", 0, seconds_max, made.layer_s);
        if (done)
            done = read_number("pack_s", 0, seconds_max, made.pack_s);
        if (!done)
            return tl::unexpected(done.error());
        made.head_bytes = static_cast<std::uint64_t>(head_bytes);
        return made;
    }

private:
    tl::unexpected<error> refuse(const std::string& why) const {
        return fail(errc::corrupt_file, std::string(name_) + " " + why);
    }

    result<void> read_number(const char* key, double least, double most, double& value) const {
        const auto found = root_.find(key);
        return found == root_.end() ? result<void>() : take_number(*found, key, least, most, value);
    }

    result<void> take_number(const json& found, const std::string& key, double least, double most,
                             double& value) const {
        if (!found.is_number() || !(found.get<double>() >= least && found.get<double>() <= most))
            return refuse("has a '" + key + "' that is no number within its bounds");
        value = found.get<double>();
        return {};
    }

    result<void> read_layers(const char* key, double least, std::vector<std::uint64_t>& bytes) const {
        const auto table = root_.find(key);
        if (table == root_.end() || !table->is_object())
            return refuse("has no table '" + std::string(key) + "' of bytes by layer");
        for (const auto number : trace_.layer_numbers) {
            const auto found = table->find(std::to_string(number));
            if (found == table->end())
                return refuse("says nothing about '" + std::string(key) + "' of layer " + std::to_string(number));
            double value = 0;
            if (auto done = take_number(*found, key, least, bytes_max, value); !done)
                return done;
            bytes.push_back(static_cast<std::uint64_t>(value));
        }
        return {};
    }

    const json& root_;
    const route_trace& trace_;
    std::string_view name_;
};

} // namespace

result<replay_geometry> parse_replay_geometry(std::string_view text, const route_trace& trace, std::string_view name) {
    if (json_nests_deeper_than(text, geometry_depth_max))
        return fail(errc::corrupt_file, std::string(name) + " is nested too deep");
    const auto root = json::parse(text, nullptr, false);
    if (!root.is_object())
        return fail(errc::corrupt_file, std::string(name) + " is not one JSON object");
    return geometry_reader(root, trace, name).read();
}

result<replay_geometry> read_replay_geometry(const std::filesystem::path& path, const route_trace& trace) {
    const auto text = read_text_file(path, geometry_bytes_max);
    if (!text)
        return tl::unexpected(text.error());
    return parse_replay_geometry(*text, trace, path.string());
}

} // namespace moira
