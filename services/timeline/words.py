"""The words of the map: the order they come in, and what they are called, Chinese first."""

from __future__ import annotations

from typing import NamedTuple


class Name(NamedTuple):
    """A word as people read it."""

    zh: str
    en: str


STAGES = ("LAND_USE", "ENGINEERING_PLANNING", "CONSTRUCTION", "ACCEPTANCE")
"""The four stages (国办发〔2019〕11号), in order."""

PATH = (
    "LEAD", "CONTACTED", "DEMAND_CONFIRMED", "ACCEPTED", "PLAN_REPLIED", "CONTRACTED", "WORKS_STARTED",
    "WORKS_FINISHED", "INSPECTED", "CONNECTED",
)  # fmt: skip
"""A case's way from the lead to the connection."""
LINES = frozenset({"PROTECT", "RELOCATE", "CLOSE"})
"""Business on lines that are there already: it is completed when the works are finished."""
ENDS = ("NOT_NEEDED", "DECLINED", "REFUSED", "CANCELLED", "LAPSED")
STATES = (*PATH, "COMPLETED", "SUSPENDED", *ENDS)

UTILITIES = {
    "WATER": Name("供水", "Water"),
    "DRAINAGE": Name("排水", "Drainage"),
    "POWER": Name("供电", "Power"),
    "GAS": Name("供气", "Gas"),
    "TELECOM": Name("通信", "Telecom"),
    "CABLE_TV": Name("有线电视", "Cable TV"),
    "HEAT": Name("供热", "Heat"),
}
SIGNS = {"WATER": "水", "DRAINAGE": "排", "POWER": "电", "GAS": "气", "TELECOM": "信", "CABLE_TV": "视", "HEAT": "热"}

GROUPS = {
    "lead": Name("待联系", "To be contacted"),
    "working": Name("办理中", "In progress"),
    "done": Name("已接通", "Connected"),
    "stopped": Name("已停止", "Stopped"),
}
"""What a case's state comes to, at a glance."""
GROUP = (
    dict.fromkeys(PATH[1:-1], "working")
    | dict.fromkeys(("SUSPENDED", "DECLINED", "REFUSED", "CANCELLED", "LAPSED"), "stopped")
    | {"LEAD": "lead", "CONNECTED": "done", "COMPLETED": "done", "NOT_NEEDED": "done"}
)

STAGE_NAMES = (
    Name("未进入审批", "Not in approval yet"),
    Name("立项用地规划许可", "Land use"),
    Name("工程建设许可", "Planning"),
    Name("施工许可", "Construction"),
    Name("竣工验收", "Acceptance"),
)

TYPES = {
    "investment.project.registered.v1": Name("投资立项", "Investment"),
    "engineering.item.progressed.v1": Name("审批事项", "Approval item"),
    "engineering.approval.decided.v1": Name("审批决定", "Approval"),
    "engineering.acceptance.decided.v1": Name("竣工验收", "Acceptance"),
    "licensing.licence.changed.v1": Name("电子证照", "E-licence"),
    "realestate.registration.progressed.v1": Name("不动产登记", "Registration"),
    "survey.result.published.v1": Name("多测合一", "Survey"),
    "hookup.demand.confirmed.v1": Name("用户确认", "Customer"),
    "utility.connection.requested.v1": Name("接入申请", "Request"),
    "utility.connection.progressed.v1": Name("公用办理", "Utility"),
    "works.permit.requested.v1": Name("并联申请", "Works permit"),
    "works.permit.decided.v1": Name("并联许可", "Works permit"),
    "works.trench.proposed.v1": Name("一次开挖", "Dig once"),
    "service.absence.noticed.v1": Name("服务缺位", "Absence"),
    "utility.account.transfer.requested.v1": Name("过户申请", "Transfer"),
    "utility.account.transfer.answered.v1": Name("过户结果", "Transfer"),
}

WORDS = {
    # an investment project
    "REGISTERED": Name("已登记", "Registered"),
    "DECIDED": Name("已立项", "Decided"),
    "CHANGED": Name("已变更", "Changed"),
    "EXAMINED": Name("审批", "Examined"),
    "VERIFIED": Name("核准", "Verified"),
    "FILED": Name("备案", "Filed"),
    # an item: the national statuses 1–15
    "RECEIVED": Name("接件", "Received"),
    "APPLICATION_WITHDRAWN": Name("撤件", "Application withdrawn"),
    "ACCEPTED": Name("已受理", "Accepted"),
    "NOT_ACCEPTED": Name("不受理", "Not accepted"),
    "REJECTED_AT_INTAKE": Name("不予受理", "Rejected at intake"),
    "CORRECTION_STARTED": Name("补正中", "Being corrected"),
    "CORRECTION_ENDED": Name("补正结束", "Corrected"),
    "IN_PROGRESS": Name("办理中", "In progress"),
    "SPECIAL_STARTED": Name("特别程序中", "Special procedure"),
    "SPECIAL_ENDED": Name("特别程序结束", "Special procedure ended"),
    "PASSED": Name("办结通过", "Passed"),
    "PASSED_TOLERANT": Name("容缺通过", "Passed with gaps"),
    "NOT_PASSED": Name("不通过", "Not passed"),
    # a decision and its endings
    "APPROVED": Name("通过", "Approved"),
    "DOCUMENTED": Name("批文已出", "Documented"),
    "WITHDRAWN": Name("撤回", "Withdrawn"),
    "REVOKED": Name("撤销", "Revoked"),
    "DEREGISTERED": Name("注销", "Deregistered"),
    "PENALTY_REVOKED": Name("吊销", "Revoked as penalty"),
    "EXTENDED": Name("延期", "Extended"),
    "CONDITION_MET": Name("承诺已兑现", "Condition met"),
    "CONDITION_LAPSED": Name("承诺未兑现", "Condition lapsed"),
    "TOLERANT": Name("容缺", "With gaps"),
    "COMMITMENT": Name("告知承诺", "On commitment"),
    "LAND_USE_PLANNING": Name("用地规划", "Land-use planning"),
    "ENGINEERING_PLANNING": Name("工程规划", "Engineering planning"),
    "CONSTRUCTION": Name("施工许可", "Construction"),
    "FIRE_DESIGN": Name("消防设计", "Fire design"),
    "JOINT": Name("联合验收", "Joint acceptance"),
    "STAGED": Name("分期验收", "Staged acceptance"),
    "EARTHWORK": Name("土方开挖和基坑支护", "Earthwork"),
    "PILE": Name("桩基", "Piling"),
    "MAIN": Name("主体", "Main structure"),
    # licences, registrations, surveys
    "ISSUED": Name("颁发", "Issued"),
    "REISSUED": Name("换发", "Reissued"),
    "FIRST": Name("首次登记", "First registration"),
    "TRANSFER": Name("转移登记", "Transfer"),
    "SPLIT": Name("分割", "Split"),
    "MERGE": Name("合并", "Merge"),
    "PUBLISHED": Name("已发布", "Published"),
    "CORRECTED": Name("已更正", "Corrected"),
    # the customer's form
    "APPLIED": Name("申请接入", "Applied"),
    "WORKS_BEGUN": Name("工程开工", "Works begun"),
    "CONFIRMED": Name("已确认用量", "Demand confirmed"),
    "CONSENTED": Name("同意共享联系方式", "Contact consented"),
    "CONSENT_WITHDRAWN": Name("撤回同意", "Consent withdrawn"),
    "OBJECTED": Name("提出异议", "Objected"),
    # a case
    "LEAD": Name("线索", "Lead"),
    "REQUESTED": Name("已申请", "Requested"),
    "AMENDED": Name("已更新", "Amended"),
    "CONTACTED": Name("已联系", "Contacted"),
    "DEMAND_CONFIRMED": Name("已确认", "Confirmed"),
    "PLAN_REPLIED": Name("已答复方案", "Plan replied"),
    "CONTRACTED": Name("已签约", "Contracted"),
    "WORKS_STARTED": Name("施工中", "Works started"),
    "WORKS_FINISHED": Name("施工完成", "Works finished"),
    "INSPECTED": Name("已验收", "Inspected"),
    "CONNECTED": Name("已接通", "Connected"),
    "COMPLETED": Name("已办结", "Completed"),
    "NOT_NEEDED": Name("无需接入", "Not needed"),
    "DECLINED": Name("用户放弃", "Declined"),
    "REFUSED": Name("不予办理", "Refused"),
    "SUSPENDED": Name("暂停", "Suspended"),
    "RESUMED": Name("恢复", "Resumed"),
    "CANCELLED": Name("已取消", "Cancelled"),
    "LAPSED": Name("失效", "Lapsed"),
    "TEMPORARY": Name("临时接入", "Temporary"),
    "PERMANENT": Name("正式接入", "Permanent"),
    "TEMP_TO_PERMANENT": Name("临时转正式", "Temporary to permanent"),
    "INCREASE": Name("增容", "Increase"),
    "RELOCATE": Name("迁改", "Relocate"),
    "PROTECT": Name("保护", "Protect"),
    "CONVERT_TO_DIRECT": Name("转改直", "Convert to direct"),
    "CLOSE": Name("销户", "Close"),
    "UTILITY": Name("公用企业", "Utility"),
    "CUSTOMER": Name("用户", "Customer"),
    "DEPARTMENT": Name("部门", "Department"),
}


ABSENCES = {
    "NO_CONTACT": Name("未按时联系企业", "No contact with the company"),
    "NO_PLAN": Name("未按时答复方案", "No plan"),
    "NO_CONNECTION": Name("未按时接通", "No connection"),
    "NO_PROTECTION_ANSWER": Name("未答复管线保护", "No answer on protecting lines"),
    "NO_ACKNOWLEDGEMENT": Name("未确认暂停", "Suspension not acknowledged"),
    "NO_PERMIT_DECISION": Name("许可未按时办结", "No decision on a permit"),
    "NO_START_OF_WORKS": Name("逾期未开工（施工许可将失效）", "Works not started, the permit lapses"),
    "CONDITION_DUE": Name("容缺或承诺材料到期", "Papers due"),
}
"""服务缺位: what did not happen in time."""
OFFICE = Name("接入服务办公室", "Hookup office")
PROTECTION = {
    "NONE": Name("无管线", "None"),
    "PROTECT": Name("需保护", "Protect"),
    "MOVE": Name("需迁改", "Move"),
}
"""What a pipe owner answers before the start of works."""
PERMITS = {
    "PENDING": Name("许可办理中", "Permits pending"),
    "GRANTED": Name("许可已齐", "Permits granted"),
    "REFUSED": Name("许可未准予", "Permit refused"),
}
WORKS_KINDS = {
    "ROAD_OCCUPATION": Name("占用道路", "Road occupation"),
    "ROAD_EXCAVATION": Name("挖掘道路", "Road excavation"),
    "GREEN_SPACE": Name("占用绿地", "Green space"),
    "TREES": Name("砍伐迁移树木", "Trees"),
    "TRAFFIC": Name("影响交通安全", "Traffic"),
    "RIVER": Name("涉河", "River"),
    "HIGHWAY": Name("涉路（公路）", "Highway"),
}
ROUTES = {
    "FILE": Name("备案", "File"),
    "COMMIT": Name("告知承诺", "Commit"),
    "APPROVE": Name("审批", "Approve"),
    "GOVERNMENT": Name("政府批准", "Government"),
    "EMERGENCY": Name("应急先掘后补", "Emergency"),
}
TRANSFERS = {
    "PRECHECK": Name("预检中", "Being checked"),
    "EXECUTE": Name("过户中", "Being moved"),
    "STOP": Name("正在停止", "Being stopped"),
    "PRECHECKED": Name("预检通过", "Checked"),
    "PENDING_SETTLEMENT": Name("待结清", "Waiting for settlement"),
    "PENDING": Name("待企业答复", "Not yet answered"),
    "NOT_FOUND": Name("未找到账户", "No account found"),
    "UNMATCHED": Name("未匹配，待人工", "Unmatched, for a person"),
    "DONE": Name("已过户", "Done"),
    "DECLINED": Name("不予过户", "Declined"),
    "STOPPED": Name("已停止", "Stopped"),
}
CHOICES = {"MOVE": Name("过户", "Move"), "CLOSE": Name("销户", "Close"), "LEAVE": Name("不变", "Leave")}
TRENCHES = {
    "PROPOSED": Name("建议合并开挖", "Proposed"),
    "AMENDED": Name("建议合并开挖", "Proposed"),
    "WITHDRAWN": Name("建议已撤回", "Withdrawn"),
}
BASES = {
    "ESTIMATED": Name("估算", "Estimated"),
    "DECLARED": Name("申报", "Declared"),
    "CONFIRMED": Name("企业确认", "Confirmed"),
}
PROMISES = {
    "CONTACT": Name("联系企业", "Contact"),
    "PROTECTION": Name("答复保护", "Protection answer"),
    "PLAN": Name("答复方案", "Plan"),
    "CONNECTION": Name("接通", "Connection"),
    "FEE": Name("费用", "Fee"),
    "BOUNDARY": Name("投资界面", "Boundary"),
    "VISIT": Name("不要求到场", "No visit asked"),
}
"""服务承诺: what is promised on a case."""
BECAME = {
    "PROMISED": Name("已承诺", "Promised"),
    "RUNNING": Name("计时中", "Running"),
    "KEPT": Name("已兑现", "Kept"),
    "LATE": Name("逾期办成", "Late"),
    "OVERDUE": Name("已逾期", "Overdue"),
    "BROKEN": Name("未兑现", "Broken"),
}
"""What became of a promise."""
KINDS = {
    "project": Name("工程项目", "Project"),
    "unit": Name("不动产单元", "Unit"),
    "enterprise": Name("企业", "Enterprise"),
}
OF_TYPE = {
    "service.absence.noticed.v1": {"NOTICED": Name("缺位", "Noticed"), "ENDED": Name("已消除", "Ended")},
    "utility.account.transfer.requested.v1": TRANSFERS,
    "utility.account.transfer.answered.v1": TRANSFERS,
    "works.trench.proposed.v1": TRENCHES,
    "works.permit.decided.v1": {"APPROVED": Name("准予", "Granted"), "REFUSED": Name("不准予", "Refused")},
}
"""Words that mean something else in their type."""
ABOUT = {"kind": ABSENCES, "works_kind": WORKS_KINDS, "choice": CHOICES, "protection": PROTECTION, "route": ROUTES}
"""Words that mean something else in their field."""


def name_of(word: str) -> Name:
    """What a word is called; one we have no name for yet stands as it is."""
    return WORDS.get(word) or UTILITIES.get(word) or Name(word, word)
