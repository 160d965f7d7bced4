// Times single ops of one plugin on one device, as JSON: what tools/gpu_check holds against the device's own speeds.
#include "plugins/conformance/op_speed.hpp"
#include "plugins/conformance/plugin_under_test.hpp"

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string_view>

namespace {

constexpr int exit_done = 0;
constexpr int exit_usage = 2;
constexpr int exit_failed = 3;
constexpr int exit_unusable = 4;

constexpr const char* usage =
    "usage: moira_op_bench --plugin NAME --plugins-dir DIR [--plugins-dir DIR ...] [--batch B,B,...] [--seconds S]\n"
    "       [--hidden H] [--inner I] [--experts E] [--top-k K] [--columns N] [--matrices M]\n"
    "Times grouped expert FFN and gemm in BF16 and FP8, with weights that rotate, and copies of experts to the "
    "device.\n"
    "The shapes are qwen3-30b-a3b's unless others are given. Prints one JSON object.\n"
    "exit code: 0 done, 2 wrong usage or no such plugin, 3 an op failed, 4 the plugin cannot run here\n";

struct bench_arguments {
    std::vector<std::filesystem::path> folders;
    std::string plugin;
    moira::op_speed_options speed;
};

bool parse_count(const char* text, std::uint32_t maximum, std::uint32_t& value) {
    char* end = nullptr;
    const unsigned long parsed = std::strtoul(text, &end, 10);
    value = static_cast<std::uint32_t>(parsed);
    return end != text && *end == 0 && parsed >= 1 && parsed <= maximum;
}

bool parse_batches(const char* text, std::vector<std::uint32_t>& batches) {
    batches.clear();
    std::istringstream words(text);
    for (std::string word; std::getline(words, word, ',');)
        if (!parse_count(word.c_str(), 1u << 14, batches.emplace_back()))
            return false;
    return !batches.empty();
}

bool parse_one(std::string_view name, const char* value, bench_arguments& arguments) {
    moira::op_speed_options& speed = arguments.speed;
    constexpr std::uint32_t dimension_max = 1u << 16;
    if (name == "--plugin")
        arguments.plugin = value;
    else if (name == "--plugins-dir")
        arguments.folders.emplace_back(value);
    else if (name == "--batch")
        return parse_batches(value, speed.batches);
    else if (name == "--seconds")
        return (speed.seconds = std::atof(value)) > 0;
    else if (name == "--hidden")
        return parse_count(value, dimension_max, speed.hidden);
    else if (name == "--inner")
        return parse_count(value, dimension_max, speed.inner);
    else if (name == "--experts")
        return parse_count(value, 1024, speed.experts);
    else if (name == "--top-k")
        return parse_count(value, 64, speed.top_k);
    else if (name == "--columns")
        return parse_count(value, dimension_max, speed.gemm_n);
    else if (name == "--matrices")
        return parse_count(value, 256, speed.gemm_weights);
    else
        return false;
    return true;
}

bool parse(int count, char** words, bench_arguments& arguments) {
    for (int i = 1; i < count; i += 2)
        if (i + 1 >= count || !parse_one(words[i], words[i + 1], arguments))
            return false;
    return !arguments.plugin.empty() && !arguments.folders.empty() && arguments.speed.top_k <= arguments.speed.experts;
}

void print_rows(const std::string& plugin, const std::vector<moira::op_speed_row>& rows) {
    std::printf("{\"plugin\":\"%s\",\"rows\":[", plugin.c_str());
    const char* separator = "";
    for (const auto& row : rows) {
        const double seconds = row.us * 1e-6;
        std::printf("%s{\"op\":\"%s\",\"type\":\"%s\",\"batch\":%u,\"us\":%.3f,\"bytes\":%.0f,\"gb_s\":%.2f,"
                    "\"tflop_s\":%.3f}",
                    separator, row.op.c_str(), row.type.c_str(), row.batch, row.us, row.bytes,
                    seconds > 0 ? row.bytes * 1e-9 / seconds : 0, seconds > 0 ? row.flops * 1e-12 / seconds : 0);
        separator = ",";
    }
    std::printf("]}\n");
}

} // namespace

int main(int count, char** words) {
    bench_arguments arguments;
    if (!parse(count, words, arguments)) {
        std::cerr << usage;
        return exit_usage;
    }
    const auto found = moira::find_plugin(arguments.folders, arguments.plugin);
    if (!found) {
        std::cerr << found.error().message << '\n';
        return exit_usage;
    }
    constexpr std::uint32_t all_cores = 0;
    const auto opened =
        moira::open_plugin_under_test(arguments.folders, arguments.plugin, found->device_class, all_cores);
    if (!opened) {
        std::cerr << opened.error().message << '\n';
        return exit_unusable;
    }
    const auto rows = moira::measure_op_speeds((*opened)->provider(), arguments.speed);
    if (!rows) {
        std::cerr << rows.error().message << '\n';
        return exit_failed;
    }
    print_rows(arguments.plugin, *rows);
    return exit_done;
}
