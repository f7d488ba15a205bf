// Coefficients, constant term first. Written by fit_coefficients.py: change them there, and know that every
// change is a change of the numbers everyone gets (CHANGELOG, "Changes to generated numbers").
// clang-format off
#pragma once

namespace fastinit::coefficients {

// -2 ln(1 + d/2) + 2 ln 2 d = d P(d), -1 <= d <= 0; error of the radius 4.6e-07
inline constexpr float kLog[7] = {
    0x1.8b8e14p-2f, 0x1.ff4aeap-3f, -0x1.637bc8p-4f, 0x1.0b53d8p-6f,
    -0x1.6d78d2p-5f, -0x1.e3decep-6f, -0x1.2e3410p-6f,
};

// -sin(pi/2 s) = s P(s^2), |s| <= 1; error 7.6e-09
inline constexpr float kMinusSin[5] = {
    -0x1.921fb4p+0f, 0x1.4abba2p-1f, -0x1.466504p-4f, 0x1.31fbeep-8f,
    -0x1.3911b2p-13f,
};

// cos(pi/2 s) = P(s^2), |s| <= 1; error 6.2e-08
inline constexpr float kCos[5] = {
    0x1.fffffep-1f, -0x1.3bd39cp+0f, 0x1.03bc26p-2f, -0x1.54dcb4p-6f,
    0x1.c02e20p-11f,
};

// z = (p - q) N(y)/D(y), y = sqrt(pq) >= sqrt(0.00069); error of z 5.3e-07
inline constexpr float kCentralN[5] = {
    0x1.2a942ap+2f, 0x1.2968c2p+9f, 0x1.337cdep+13f, 0x1.85aaecp+14f,
    0x1.42fe02p+10f,
};

// D(y) of the above
inline constexpr float kCentralD[5] = {
    0x1.000000p+0f, 0x1.55db0cp+7f, 0x1.f1df7cp+11f, 0x1.2bbdc2p+14f,
    0x1.3ed298p+14f,
};

// -z = r - N(r)/D(r), r = sqrt(-2 ln t) in [3.75, 14.1]; error of z 5e-07
inline constexpr float kTailN[4] = {
    0x1.2f9474p+1f, 0x1.6b8432p-1f, 0x1.a50cecp-8f, -0x1.09deb2p-14f,
};

// D(r) of the above
inline constexpr float kTailD[3] = {
    0x1.000000p+0f, 0x1.48d8a8p+0f, 0x1.5d744cp-3f,
};

// ln m = 2 s + s^3 P(s^2), s = (m - 1)/(m + 1), 1/sqrt(2) <= m <= sqrt(2); error of P 3.7e-17
inline constexpr double kLog64[8] = {
    0x1.5555555555555p-1, 0x1.9999999999a38p-2, 0x1.2492492476cccp-2, 0x1.c71c720159177p-3,
    0x1.745cf9048dd95p-3, 0x1.3b1c355a8f7a2p-3, 0x1.0fbe95d716020p-3, 0x1.0c039c49989c6p-3,
};

// -sin(pi/2 s) = s P(s^2), |s| <= 1; error 8.4e-17
inline constexpr double kMinusSin64[10] = {
    -0x1.921fb54442d18p+0, 0x1.4abbce625be53p-1, -0x1.466bc6775aae2p-4, 0x1.32d2cce62bd57p-8,
    -0x1.50783487ec19ap-13, 0x1.e3074fdc520eap-19, -0x1.e8f4338e03a66p-25, 0x1.6fad488852625p-31,
    -0x1.aabbe3815eb60p-38, 0x1.7ed4cd7222586p-45,
};

// cos(pi/2 s) = P(s^2), |s| <= 1; error 9.4e-17
inline constexpr double kCos64[11] = {
    0x1.0000000000000p+0, -0x1.3bd3cc9be45dep+0, 0x1.03c1f081b5ac4p-2, -0x1.55d3c7e3cbffap-6,
    0x1.e1f506891ba5cp-11, -0x1.a6d1f2a2012f9p-16, 0x1.f9d38a34dcbd7p-22, -0x1.b6e24e163c2aap-28,
    0x1.20c5d15363bcdp-34, -0x1.29ea6be37bb71p-41, 0x1.e114484d3752ep-49,
};

}  // namespace fastinit::coefficients
