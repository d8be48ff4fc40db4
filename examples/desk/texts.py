"""The messages for the customer."""

TEXTS = {
    "zh": {
        "card": "请输入卡密（直接回车退出）：",
        "activated": "卡密已激活",
        "until": "卡密有效，有效期至 {time}",
        "permanent": "卡密有效，永久卡",
        "offline": "当前离线使用，请在 {time} 前联网",
        "not_remembered": "无法记住卡密，下次需重新输入：{message}",
        "help": "输入“地区 公斤数”报价，例如：广东 3.5。“导出”保存报价，直接回车退出。地区：{zones}",
        "quote": "{zone} {weight} kg：{price} 元",
        "unknown": "无法识别：{line}",
        "exported": "已保存 {count} 条报价到 {path}",
        "failed": "无法使用：{message}",
        "file": "无法读写文件：{message}",
        "wrong": "程序配置有误，请联系卖家：{message}",
    },
    "en": {
        "card": "Your card (press Enter to leave): ",
        "activated": "The card is now activated",
        "until": "The card is valid until {time}",
        "permanent": "The card is valid permanently",
        "offline": "Working offline; please connect before {time}",
        "not_remembered": "The card cannot be stored; please type it again next time: {message}",
        "help": "Type zone and kilograms for a quote: 广东 3.5. “export” saves them, Enter leaves. Zones: {zones}",
        "quote": "{zone} {weight} kg: CNY {price}",
        "unknown": "Not understood: {line}",
        "exported": "Saved {count} quotes to {path}",
        "failed": "Cannot run: {message}",
        "file": "Cannot read or write a file: {message}",
        "wrong": "The program is configured incorrectly. Please contact the seller: {message}",
    },
}
