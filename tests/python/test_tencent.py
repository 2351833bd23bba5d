"""Software for Tencent Cloud IM works with the hub unchanged, except for the address."""

import time
import unittest

import requests
from tencentcloud_im.tcim_client import TCIMClient
from TLSSigAPIv2 import TLSSigAPIv2

from hub import SOON_S, Hub

APP = 1400000000
KEY = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
OTHER_KEY = KEY[::-1]


class TencentCloudIM(unittest.TestCase):
    def setUp(self):
        settings = {
            "login.policy": "multi",
            "tencent.sdk_app_id": str(APP),
            "tencent.secret_key": KEY,
        }
        self.hub = Hub(settings)
        self.addCleanup(self.hub.stop)
        self.base = f"{self.hub.origin}/v4"

    def connect(self):
        return self.enterContext(self.hub.connect())

    def sdk(self, key=KEY, administrator="administrator"):
        return TCIMClient(APP, key, administrator, tencent_url=self.base)

    def answer(self, response):
        self.assertEqual(response.status_code, 200)
        return response.json()

    def test_the_sdk_sees_who_is_online(self):
        for platform in ("ios", "web"):
            self.assertIn("ok", self.connect().login("ann", platform))
        answer = self.answer(self.sdk().check_user_online(["ann", "zoe"]))
        detail = [
            {"Platform": "iPhone", "Status": "Online"},
            {"Platform": "Web", "Status": "Online"},
        ]
        ann = {"To_Account": "ann", "Status": "Online", "State": "Online", "Detail": detail}
        zoe = {"To_Account": "zoe", "Status": "Offline", "State": "Offline"}
        expected = {
            "ActionStatus": "OK",
            "ErrorInfo": "",
            "ErrorCode": 0,
            "QueryResult": [ann, zoe],
            "ErrorList": [],
        }
        self.assertEqual(answer, expected)

    def test_the_sdk_kicks_and_revokes(self):
        ann = self.connect()
        issued = int(time.time()) - 60
        self.assertIn("ok", ann.login("ann", "web", issued))
        answer = self.answer(self.sdk().abolition_user_sig("ann"))
        self.assertEqual(answer, {"ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0})
        notice = ann.hear()
        self.assertEqual((notice["type"], notice["reason"]), ("kicked", "admin"))
        status = self.answer(self.sdk().check_user_online(["ann"]))["QueryResult"][0]
        self.assertEqual(status["Status"], "Offline")
        refused = self.connect().login("ann", "web", issued)
        self.assertEqual(refused["error"]["code"], "token_revoked")
        self.assertIn("ok", self.connect().login("ann", "web"))

    def test_wrong_keys_administrators_and_bodies_get_their_error_codes(self):
        self.assertIn("ok", self.connect().login("ann", "web"))
        rows = [
            (self.sdk(key=OTHER_KEY), 70009, 70009),
            (self.sdk(administrator="ann"), 90009, 70403),
        ]
        for sdk, query, kick in rows:
            for response, code in (
                (sdk.check_user_online(["ann"]), query),
                (sdk.abolition_user_sig("ann"), kick),
            ):
                answer = self.answer(response)
                self.assertEqual((answer["ActionStatus"], answer["ErrorCode"]), ("FAIL", code))
        status = self.answer(self.sdk().check_user_online(["ann"]))["QueryResult"][0]
        self.assertEqual(status["Status"], "Online")
        self.assertEqual(self.answer(self.sdk().check_user_online([]))["ErrorCode"], 90001)

    def test_signatures_of_the_official_library_are_verified(self):
        signer = TLSSigAPIv2(APP, KEY)
        rows = [
            (signer.gen_sig("administrator"), 0),
            (signer.gen_sig("administrator", 60), 0),
            (signer.gen_sig_with_userbuf("administrator", 60, b"abc"), 0),
            (signer.gen_sig_with_userbuf("administrator", 60, bytes(range(256))), 0),
            (signer.gen_sig("administrator", -60), 70001),
            (signer.gen_sig_with_userbuf("administrator", -60, b"abc"), 70001),
            (signer.gen_sig("administrator")[1:], 70003),
            (TLSSigAPIv2(APP, OTHER_KEY).gen_sig("administrator"), 70009),
            (signer.gen_sig("ann"), 70013),
            (TLSSigAPIv2(APP + 1, KEY).gen_sig("administrator"), 70014),
        ]
        for usersig, code in rows:
            response = requests.post(
                f"{self.base}/openim/querystate",
                params={"sdkappid": APP, "identifier": "administrator", "usersig": usersig},
                json={"To_Account": ["ann"]},
                timeout=SOON_S,
            )
            self.assertEqual(self.answer(response)["ErrorCode"], code, usersig)


if __name__ == "__main__":
    unittest.main()
