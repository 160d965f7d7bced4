"""Prints tests/model/rope_expected.inc: rotary tables of well-known models, from the published formulas in doubles.

Written apart from the C++ code: YaRN after Peng et al. 2023 (equations 17 to 23, with DeepSeek's two magnitudes), the
Llama 3.1 rule after its model card. Run by hand: python3 tests/model/rope_expected.py > tests/model/rope_expected.inc
"""
import math


def yarn(width, theta, factor, context, fast, slow, mscale, mscale_all):
    def rotations_to_index(rotations):
        return width * math.log(context / (2 * math.pi * rotations)) / (2 * math.log(theta))

    begin = max(math.floor(rotations_to_index(fast)), 0)
    end = min(math.ceil(rotations_to_index(slow)), width - 1)
    if begin == end:
        end += 0.001

    def frequency(i):
        plain = 1.0 / theta ** (2 * i / width)
        gamma = 1.0 - min(max((i - begin) / (end - begin), 0.0), 1.0)
        return (1 - gamma) * plain / factor + gamma * plain

    def growth(weight):
        return 1.0 if factor <= 1 else 1.0 + 0.1 * weight * math.log(factor)

    magnitude = growth(mscale) / growth(mscale_all) if mscale and mscale_all else growth(1.0)
    return [frequency(i) for i in range(width // 2)], magnitude


def llama3(width, theta, factor, context, low, high):
    frequencies = []
    for i in range(width // 2):
        plain = theta ** (-2 * i / width)
        wavelength = 2 * math.pi / plain
        if wavelength < context / high:
            frequencies.append(plain)
        elif wavelength > context / low:
            frequencies.append(plain / factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            frequencies.append((1 - smooth) * plain / factor + smooth * plain)
    return frequencies, 1.0


cases = {
    "plain": ([1e4 ** (-2 * i / 16) for i in range(8)], 1.0),
    "linear": ([1e4 ** (-2 * i / 16) / 4 for i in range(8)], 1.0),
    "deepseek_v3": yarn(64, 1e4, 40.0, 4096, 32, 1, 1.0, 1.0),
    "unequal_magnitudes": yarn(64, 1e4, 40.0, 4096, 32, 1, 1.0, 0.707),
    "qwen3_yarn": yarn(128, 1e6, 4.0, 32768, 32, 1, 0, 0),
    "llama3": llama3(128, 5e5, 8.0, 8192, 1.0, 4.0),
}

print("// Printed by rope_expected.py: {case, position, pair, cosine, sine}, magnitude included.")
for name, (frequencies, magnitude) in cases.items():
    pairs = len(frequencies)
    for position in (1, 1000, 5000):
        for pair in sorted({0, 1, pairs // 4, pairs * 3 // 8, pairs // 2, pairs * 5 // 8, pairs * 3 // 4, pairs - 1}):
            angle = position * frequencies[pair]
            print('{"%s", %d, %d, %.17g, %.17g},'
                  % (name, position, pair, math.cos(angle) * magnitude, math.sin(angle) * magnitude))
