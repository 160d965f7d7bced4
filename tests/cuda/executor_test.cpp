#include "kernels/cuda/device/number_formats.hpp"
#include "kernels/cuda/host/executor.hpp"
#include "kernels/float_formats.hpp"
#include "tests/cuda/planted_faults.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

namespace moira {

TEST_CASE("every planted fault is found under every schedule, and its clean twin is not") {
    for (const planted_fault& fault : planted_faults()) {
        for (const simt_config& config : simt_all_schedules(7)) {
            INFO(std::string(fault.name), ", schedule ", int(config.schedule));
            const simt_report clean = fault.run(config, false);
            CHECK_MESSAGE(clean.clean(), clean.text());
            if (fault.needs_hooks && !simt_has_hooks())
                continue;
            const simt_report broken = fault.run(config, true);
            CHECK_MESSAGE(broken.has(fault.expected), broken.text());
        }
    }
}

TEST_CASE("a race is reported with both threads") {
    if (!simt_has_hooks())
        return;
    const simt_report report = planted_faults()[0].run({}, true);
    REQUIRE(report.has(simt_fault::race));
    CHECK(report.text().find("thread 32 reads") != std::string::npos); // its partner wrote before
    CHECK(report.text().find("write of block 0 thread 31 ") != std::string::npos);
}

TEST_CASE("a swizzled tile is read without bank conflicts, a straight one with seven per phase") {
    CHECK(run_tile_read({}, true).bank_conflicts == 0);
    const simt_report straight = run_tile_read({}, false);
    CHECK(straight.bank_phases == 4);
    CHECK(straight.bank_conflicts == 4 * 7);
}

TEST_CASE("mma multiplies integers exactly") {
    std::vector<uint16_t> a(16 * 16), b(16 * 8);
    for (uint32_t i = 0; i < a.size(); ++i)
        a[i] = float_to_bf16(float(int(i * 7 % 23) - 11));
    for (uint32_t i = 0; i < b.size(); ++i)
        b[i] = float_to_bf16(float(int(i * 5 % 19) - 9));
    for (const simt_config& config : simt_all_schedules(3)) {
        simt_memory memory;
        float* out = memory.allocate_array<float>("out", 16 * 8);
        const simt_report report = run_one_mma(config, memory, memory.copy_of("a", a), memory.copy_of("b", b), out);
        CHECK_MESSAGE(report.clean(), report.text());
        for (uint32_t row = 0; row < 16; ++row)
            for (uint32_t column = 0; column < 8; ++column) {
                float sum = 0.0f;
                for (uint32_t k = 0; k < 16; ++k)
                    sum += bf16_to_float(a[row * 16 + k]) * bf16_to_float(b[k * 8 + column]);
                REQUIRE(out[row * 8 + column] == sum);
            }
    }
}

TEST_CASE("the block's sum is the same in every thread and under every schedule") {
    std::vector<float> in(256);
    std::iota(in.begin(), in.end(), 1.0f);
    for (const simt_config& config : simt_all_schedules(5)) {
        simt_memory memory;
        float* out = memory.allocate_array<float>("out", in.size());
        const simt_report report = run_sums(config, memory, memory.copy_of("in", in), out, uint32_t(in.size()));
        CHECK_MESSAGE(report.clean(), report.text());
        for (uint32_t i = 0; i < in.size(); ++i)
            REQUIRE(out[i] == 256.0f * 257.0f / 2.0f + 256'000.0f);
    }
}

TEST_CASE("the device's number formats are the CPU's") {
    for (uint32_t bits = 0; bits < 256; ++bits) {
        const float value = f8_e4m3_to_float(uint8_t(bits));
        REQUIRE(bits_of_float(f8_e4m3_value(uint8_t(bits))) == bits_of_float(value));
        if (!std::isnan(value))
            REQUIRE(f8_e4m3_rounded(value) == bits);
    }
    CHECK((f8_e4m3_rounded(std::nanf("")) & 0x7F) == 0x7F);
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        REQUIRE(bits_of_float(bf16_value(uint16_t(bits))) == bits_of_float(bf16_to_float(uint16_t(bits))));
        REQUIRE(bits_of_float(f16_value(uint16_t(bits))) == bits_of_float(f16_to_float(uint16_t(bits))));
    }
    for (uint32_t bits = 0; bits < 0xFFFF0000u; bits += 0x3FF1u)
        REQUIRE(bf16_rounded(float_of_bits(bits)) == float_to_bf16(float_of_bits(bits)));
    const float e2m1[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
    for (uint32_t bits = 0; bits < 16; ++bits)
        CHECK(f4_e2m1_value(bits) == (bits < 8 ? e2m1[bits] : -e2m1[bits - 8]));
    CHECK(e8m0_value(127) == 1.0f);
    CHECK(e8m0_value(0) == std::ldexp(1.0f, -127));
    CHECK(std::isnan(e8m0_value(255)));
    const uint8_t packed[] = {0x21, 0x43};
    CHECK(mxfp4_value(packed, 0, 128) == 1.0f); // 0.5 * 2
    CHECK(mxfp4_value(packed, 3, 127) == 2.0f);
}

TEST_CASE("E4M3 rounds to the nearest value, ties to even, and saturates") {
    // Every value half way between neighbours, and just beside it.
    for (uint32_t bits = 0; bits < 0x7Eu; ++bits) {
        const float low = f8_e4m3_to_float(uint8_t(bits));
        const float high = f8_e4m3_to_float(uint8_t(bits + 1));
        const float middle = (low + high) / 2;
        REQUIRE(f8_e4m3_rounded(middle) == bits + bits % 2);
        REQUIRE(f8_e4m3_rounded(std::nextafter(middle, 0.0f)) == bits);
        REQUIRE(f8_e4m3_rounded(-std::nextafter(middle, 1e9f)) == bits + 1 + 0x80);
    }
    CHECK(f8_e4m3_rounded(463.9f) == 0x7E);
    CHECK(f8_e4m3_rounded(1e30f) == 0x7E);
    CHECK(f8_e4m3_rounded(-INFINITY) == 0xFE);
}

} // namespace moira
